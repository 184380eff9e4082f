"""The setting of every section of the GPU bench: device, sizes, work folder, and loaded operators."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jobs.bench.gpu.sizes import Sizes
from jobs.bench.gpu.timing import Clock, Make
from pipeline.contracts import ImageBatch, Operator, Pixels
from pipeline.noise import Noise


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


def operator_call(operator: Operator, device: str, batch: int, classes: tuple[str, ...] = ()) -> Make:
    """Return a function that makes images with a loaded operator, arrays in and out."""

    def make(numbers: range, sources: Pixels | None) -> None:
        for start in range(0, len(numbers), batch):
            seeds = list(numbers[start : start + batch])
            labels = np.array([seed % len(classes) if classes else -1 for seed in seeds], np.int64)
            images = None if sources is None else sources[start : start + batch]
            given = ImageBatch(images, seeds, labels, classes)
            made = operator.apply(given, operator.draw(given), Noise(seeds, device))
            if made.errors or len(made.images) != len(seeds):
                raise RuntimeError(f"{operator.name}: {len(made.errors)} of {len(seeds)} images failed: {made.errors}")

    return make
