"""Refuse images that are nearly of one colour."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from pipeline.contracts import Gate, MadeBatch, Pixels
from pipeline.gates.parameters import GateParameters

LEVELS = 256


class BlankParams(GateParameters):
    """How much of an image may be of one colour, and how far apart two levels of one colour may be."""

    renamed: ClassVar[Mapping[str, str]] = {"most_share": "max_share"}

    max_share: float = Field(0.95, ge=0, le=1, description="share of the pixels that may be of one colour")
    tolerance_levels: int = Field(
        8, ge=0, le=127, description="grey levels, of 255, by which pixels of one colour may differ in each channel"
    )


class Blank(Gate):
    """Score the share of an image's pixels that are of one colour, 0 to 1: 1 is an empty image.

    Counted in each channel by itself, and the least of these is the score: no colour can fill more than that. [N, H, W,
    C] uint8 of any size.
    """

    name = "blank"
    version = 1
    source = "this project: the fullest window of each channel's histogram"
    Params = BlankParams
    uses_torch = False
    s_per_image = (0.001, 0.001)
    params: BlankParams

    @property
    def bounds(self) -> tuple[float, float]:
        """Scores that are kept: 0 to `max_share`."""
        return 0.0, self.params.max_share

    def score(self, batch: MadeBatch) -> npt.NDArray[np.float32]:
        """Return the share [N] of the commonest colour."""
        return np.array([share_of_one_colour(each, self.params.tolerance_levels) for each in batch.images], np.float32)


def share_of_one_colour(image: Pixels, tolerance: int) -> float:
    """Return how much of an image [H, W, C] uint8 lies within `tolerance` levels of one level, 0 to 1."""
    centres = np.arange(LEVELS)
    last, first = np.minimum(centres + tolerance + 1, LEVELS), np.maximum(centres - tolerance, 0)
    shares = []
    for channel in range(image.shape[2]):
        counts = np.bincount(image[..., channel].reshape(-1), minlength=LEVELS)
        below = np.concatenate([[0], np.cumsum(counts)])
        shares.append((below[last] - below[first]).max() / counts.sum())
    return float(min(shares))
