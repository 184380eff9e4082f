"""Timing on a device: synchronised, contestants in turn, medians over rounds, and peak memory."""

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

from jobs.bench.gpu.images import seeded_images
from pipeline.contracts import Pixels
from pipeline.devices import set_deterministic

MIB = 2**20
THREADS = torch.get_num_threads()
"""Threads of torch on the CPU, before `set_deterministic` changes them."""


Make = Callable[[range, Pixels | None], object]
"""Makes the images of these numbers, of these sources where it takes any."""


@dataclass(frozen=True)
class Contestant:
    """`make` makes the images of some numbers; `images` of them a round, after `warm` to warm up.

    side_px: it makes them from `seeded_images` of this side, made before the clock starts; None: without sources.
    plain: it is a user's script, which keeps torch's default arithmetic: TF32 in convolutions.
    """

    make: Make
    images: int
    warm: int
    side_px: int | None = None
    plain: bool = False


@dataclass(frozen=True)
class Clock:
    """Takes times on `device`, in `rounds` at most, and in fewer where `budget_s` is spent."""

    device: str
    rounds: int
    budget_s: float

    def compare(self, contestants: Mapping[str, Contestant], ours: str) -> dict[str, Any]:
        """Return medians in images a second, how many times as fast `ours` is, each round, and peak memory.

        Peak memory is that of the device, so it includes what the other contestants keep there, such as weights.
        """
        ends = time.monotonic() + self.budget_s
        first = dict.fromkeys(contestants, 0)
        for name, each in contestants.items():
            self._seconds(each, 0, each.warm)
            first[name] = each.warm
        found: dict[str, list[float]] = {name: [] for name in contestants}
        peaks: dict[str, float] = {}
        for _ in range(self.rounds):
            for name, each in contestants.items():
                self._forget_peak()
                speed = each.images / self._seconds(each, first[name], each.images)
                first[name] += each.images
                found[name].append(speed)
                peaks[name] = self._peak_mib()
                print(f"  {name:<28}{speed:10.2f} images/s", file=sys.stderr, flush=True)
            if time.monotonic() > ends:
                break
        speeds = {name: median(values) for name, values in found.items()}
        return {
            "images_per_s": {name: float(f"{speed:.4g}") for name, speed in speeds.items()},
            "ratio": {name: round(speeds[ours] / speed, 2) for name, speed in speeds.items() if name != ours},
            "each_round": {name: [float(f"{speed:.4g}") for speed in values] for name, values in found.items()},
            "peak_memory_mib": peaks,
        }

    def _seconds(self, each: Contestant, first: int, count: int) -> float:
        if each.plain:
            arithmetic_as_it_comes(self.device)
        else:
            set_deterministic(self.device, threads=1)
        numbers = range(first, first + count)
        sources = None if each.side_px is None else seeded_images(each.side_px, numbers)
        self._wait()
        started = time.perf_counter()
        each.make(numbers, sources)
        self._wait()
        return time.perf_counter() - started

    def _wait(self) -> None:
        if self.device != "cpu":
            torch.cuda.synchronize()

    def _forget_peak(self) -> None:
        if self.device != "cpu":
            torch.cuda.reset_peak_memory_stats()

    def _peak_mib(self) -> float:
        return round(torch.cuda.max_memory_allocated() / MIB) if self.device != "cpu" else 0.0


def arithmetic_as_it_comes(device: str) -> None:
    """Undo `set_deterministic` on a GPU: what a script that sets nothing computes with."""
    if device == "cpu":
        return
    torch.set_num_threads(THREADS)
    backends: Any = torch.backends
    backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32 = False, True
    for part, precision in (
        (backends.cuda.matmul, "ieee"),
        (backends.cudnn.conv, "tf32"),
        (backends.cudnn.rnn, "tf32"),
    ):
        part.fp32_precision = precision
    backends.cudnn.deterministic = False
    torch.use_deterministic_algorithms(False)
