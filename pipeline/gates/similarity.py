"""Refuse images that are nearly equal to their source, or that no longer resemble it (SSIM)."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from pipeline.contracts import Gate, MadeBatch, Pixels
from pipeline.gates.parameters import GateParameters

SIDE_PX = 32
WINDOW_PX = 7
LEVELS = 255.0
C1, C2 = (0.01 * LEVELS) ** 2, (0.03 * LEVELS) ** 2


class SimilarityParams(GateParameters):
    """The least and the greatest similarity of an image to its source."""

    renamed: ClassVar[Mapping[str, str]] = {"least": "min_similarity", "most": "max_similarity"}

    min_similarity: float = Field(
        -1.0, ge=-1, le=1, description="least similarity to the source; below it the content is lost"
    )
    max_similarity: float = Field(
        0.98, ge=-1, le=1, description="greatest similarity to the source; above it is a copy; 1 = copies are kept"
    )

    @model_validator(mode="after")
    def _ordered(self) -> "SimilarityParams":
        if self.max_similarity < self.min_similarity:
            raise PydanticCustomError(
                "similarity", "max_similarity is below min_similarity: every image would be refused"
            )
        return self


class Similarity(Gate):
    """Score the structural similarity of an image and its source, both at 32 px: 1 the same, 0 unrelated, -1 inverted.

    [N, H, W, C] uint8 beside sources [N, h, w, c] of any size; the mean over the channels, grey counting as equal RGB.
    At 32 px it is the motif that is compared, not the grain.
    """

    name = "similarity"
    version = 1
    source = "Wang et al. 2004, Image quality assessment: from error visibility to structural similarity, eq. 13"
    Params = SimilarityParams
    uses_torch = False
    requires_source = True
    s_per_image = (0.003, 0.003)
    params: SimilarityParams

    @property
    def bounds(self) -> tuple[float, float]:
        """From `min_similarity` to `max_similarity`."""
        return self.params.min_similarity, self.params.max_similarity

    def score(self, batch: MadeBatch) -> npt.NDArray[np.float32]:
        """Return the similarity [N], -1 to 1. Raises ValueError where there are no sources."""
        if batch.sources is None:
            raise ValueError("similarity compares with source images, and there are none")
        pairs = zip(batch.images, batch.sources, strict=True)
        return np.array([similarity(made, source) for made, source in pairs], np.float32)


def similarity(first: Pixels, second: Pixels) -> float:
    """Return the mean structural similarity of two images [H, W, C] and [h, w, c] uint8 at 32 px."""
    channels = max(first.shape[2], second.shape[2])
    planes = zip(_planes(first, channels), _planes(second, channels), strict=True)
    return min(1.0, float(np.mean([ssim(one, other) for one, other in planes])))


def _planes(image: Pixels, channels: int) -> list[npt.NDArray[np.float64]]:
    """[H, W, C] uint8 -> a plane [32, 32] a channel."""
    small = [_small(image[..., channel]) for channel in range(image.shape[2])]
    return small if len(small) == channels else small * channels


def _small(plane: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    resized = Image.fromarray(np.ascontiguousarray(plane)).resize((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR)
    return np.asarray(resized, np.float64)


def ssim(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> float:
    """Return the mean SSIM of two planes [h, w] of grey levels, over every window of 7 x 7 px, all pixels alike."""
    x, y = (sliding_window_view(plane, (WINDOW_PX, WINDOW_PX)) for plane in (first, second))
    mean_x, mean_y = x.mean(axis=(2, 3)), y.mean(axis=(2, 3))
    var_x = (x * x).mean(axis=(2, 3)) - mean_x**2
    var_y = (y * y).mean(axis=(2, 3)) - mean_y**2
    covariance = (x * y).mean(axis=(2, 3)) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    return float((luminance * (2 * covariance + C2) / (var_x + var_y + C2)).mean())
