"""Synthetic images for the GPU bench, no two equal, so that caches cannot help a contestant."""

import functools

import numpy as np

from jobs.bench.synthetic_photographs import photograph
from pipeline.contracts import Pixels

DISTINCT = 16


@functools.cache
def _drawn(side_px: int) -> tuple[Pixels, ...]:
    return tuple(photograph(seed, side_px) for seed in range(DISTINCT))


def seeded_images(side_px: int, numbers: range) -> Pixels:
    """Return the images of these numbers, [count, side, side, 3] uint8."""
    drawn = _drawn(side_px)
    return np.stack([np.roll(drawn[i % DISTINCT], i // DISTINCT % side_px, axis=1) for i in numbers])
