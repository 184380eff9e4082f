"""Refuse images that are much less, or much more, sharp than their source."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from pipeline.contracts import Gate, MadeBatch, Pixels
from pipeline.gates.parameters import GateParameters

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
FLOOR = 1.0
"""Grey levels squared, added to both variances, so that a flat source does not divide by zero."""


class SharpnessParams(GateParameters):
    """The least and the greatest ratio of an image's sharpness to its source's."""

    renamed: ClassVar[Mapping[str, str]] = {"least_ratio": "min_ratio", "most_ratio": "max_ratio"}

    min_ratio: float = Field(
        0.25, ge=0, description="least ratio to the source's sharpness; below it an image is blurred"
    )
    max_ratio: float | None = Field(None, gt=0, description="greatest ratio; above it is noise; no limit if omitted")

    @model_validator(mode="after")
    def _ordered(self) -> "SharpnessParams":
        if self.max_ratio is not None and self.max_ratio < self.min_ratio:
            raise PydanticCustomError("ratios", "max_ratio is below min_ratio: every image would be refused")
        return self


class Sharpness(Gate):
    """Score the variance of an image's Laplacian over that of its source: 1 as sharp, below 1 softer, 0 or more.

    [N, H, W, C] uint8 beside sources [N, h, w, c], each at its own size: an image that was made small and enlarged is
    softer than its source, and scores so.
    """

    name = "sharpness"
    version = 1
    source = "Pech-Pacheco et al. 2000, Diatom autofocusing in brightfield microscopy (variance of the Laplacian)"
    Params = SharpnessParams
    uses_torch = False
    requires_source = True
    s_per_image = (0.004, 0.004)
    params: SharpnessParams

    @property
    def bounds(self) -> tuple[float, float]:
        """From `min_ratio` to `max_ratio`."""
        return self.params.min_ratio, np.inf if self.params.max_ratio is None else self.params.max_ratio

    def score(self, batch: MadeBatch) -> npt.NDArray[np.float32]:
        """Return the ratio [N] of variances. Raises ValueError where there are no sources."""
        if batch.sources is None:
            raise ValueError("sharpness compares with source images, and there are none")
        pairs = zip(batch.images, batch.sources, strict=True)
        return np.array([(edges(made) + FLOOR) / (edges(source) + FLOOR) for made, source in pairs], np.float32)


def edges(image: Pixels) -> float:
    """Return the variance of the 4-neighbour Laplacian of an image [H, W, C] uint8, in grey levels squared."""
    grey = image[..., 0].astype(np.float64) if image.shape[2] == 1 else image.astype(np.float64) @ np.array(LUMA)
    wide = np.pad(grey, 1, mode="edge")
    laplacian = wide[:-2, 1:-1] + wide[2:, 1:-1] + wide[1:-1, :-2] + wide[1:-1, 2:] - 4 * grey
    return float(laplacian.var())
