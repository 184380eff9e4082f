"""Gaussian blur of a drawn width."""

import math

import numpy as np
import numpy.typing as npt
from palimpsest import Applied, Draws, ImageBatch, JobError, Noise, Operator, Parameters, Pixels, generators
from pydantic import Field


class AcmeBlurParams(Parameters):
    """How wide the blur is."""

    sigma_range_px: tuple[float, float] = Field((0.5, 2.0), description="standard deviation, drawn evenly")


class AcmeBlur(Operator):
    """Blur each image by a Gaussian: [N, H, W, C] uint8 -> the same shape; edges repeat their last pixel.

    Draws `sigma_px`. Raises JobError where the batch has no images.
    """

    name = "acme_blur"
    version = 1
    source = "Gonzalez and Woods 2018, Digital Image Processing, section 3.5"
    Params = AcmeBlurParams
    uses_torch = False
    cpu_s_per_megapixel = 0.2
    params: AcmeBlurParams

    def draw(self, batch: ImageBatch) -> Draws:
        """One width a sample, from its own seed."""
        low, high = self.params.sigma_range_px
        return Draws({"sigma_px": [float(each.uniform(low, high)) for each in generators(batch.seeds)]})

    def apply(self, batch: ImageBatch, draws: Draws, noise: Noise) -> Applied:
        """Blur by the drawn widths; the result shares no memory with the batch."""
        if batch.images is None:
            raise JobError("acme_blur: there are no images to blur; put it after an operator that makes some")
        sigmas = draws.columns["sigma_px"]
        return Applied(np.stack([blurred(image, sigma) for image, sigma in zip(batch.images, sigmas, strict=True)]))


def blurred(image: Pixels, sigma_px: float) -> Pixels:
    """Return one image [H, W, C] uint8 under a Gaussian of `sigma_px`, cut off at three times that."""
    radius = max(1, math.ceil(3 * sigma_px))
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma_px) ** 2)
    weights /= weights.sum()
    found = image.astype(np.float64)
    for axis in (0, 1):
        found = _along(found, weights, axis)
    return np.rint(found).astype(np.uint8)


def _along(image: npt.NDArray[np.float64], weights: npt.NDArray[np.float64], axis: int) -> npt.NDArray[np.float64]:
    radius = len(weights) // 2
    padded = np.pad(image, [(radius, radius) if each == axis else (0, 0) for each in range(3)], mode="edge")
    size = image.shape[axis]
    found = np.zeros_like(image)
    for place, weight in enumerate(weights):
        found += weight * padded.take(np.arange(place, place + size), axis)
    return found
