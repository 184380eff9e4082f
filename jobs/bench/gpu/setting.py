"""What every section of the GPU bench works with: device, sizes, a folder, pictures, operators that are loaded."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jobs.bench.gpu.clock import Clock
from jobs.bench.gpu.sizes import Sizes
from jobs.bench.photographs import photograph
from pipeline.contracts import ImageBatch, Operator, Pixels
from pipeline.noise import Noise

DISTINCT = 16


@dataclass(frozen=True)
class Setting:
    """budget_s: what the timed part of one contest may take."""

    device: str
    sizes: Sizes
    folder: Path
    cpus: int
    budget_s: float = 30.0

    @property
    def half(self) -> str:
        """The type the product computes in: bfloat16 on a GPU."""
        return "float32" if self.device == "cpu" else "bfloat16"

    def clock(self) -> Clock:
        return Clock(self.device, self.sizes.rounds, self.budget_s)


@functools.cache
def _drawn(side_px: int) -> tuple[Pixels, ...]:
    return tuple(photograph(seed, side_px) for seed in range(DISTINCT))


def pictures(side_px: int, first: int, count: int) -> Pixels:
    """Return the images of these numbers, [count, side, side, 3] uint8, no two equal: nothing may be remembered."""
    drawn = _drawn(side_px)
    rolled = [np.roll(drawn[i % DISTINCT], i // DISTINCT % side_px, axis=1) for i in range(first, first + count)]
    return np.stack(rolled)


def operated(
    operator: Operator, device: str, batch: int, side_px: int | None, classes: tuple[str, ...] = ()
) -> Callable[[int, int], Any]:
    """Return what makes the images of some numbers with a loaded operator, arrays in and out; None: of no source."""

    def make(first: int, count: int) -> None:
        for start in range(first, first + count, batch):
            some = min(batch, first + count - start)
            seeds = list(range(start, start + some))
            labels = np.array([seed % len(classes) if classes else -1 for seed in seeds], np.int64)
            images = None if side_px is None else pictures(side_px, start, some)
            told = ImageBatch(images, seeds, labels, classes)
            made = operator.apply(told, operator.draw(told), Noise(seeds, device))
            if made.errors or len(made.images) != some:
                raise RuntimeError(f"{operator.name}: {len(made.errors)} of {some} images failed: {made.errors}")

    return make
