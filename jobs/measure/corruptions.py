"""Corrupted test images at five severities, the same for the same seed (Hendrycks & Dietterich 2019).

Paper: "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations", ICLR 2019, arXiv:1903.12261,
section 3.2. The scales are those of the authors' CIFAR-10-C, for images of about 32 px. A corruption takes and gives
images [N, H, W, C] in [0, 1], float64; `corrupted` takes and gives grey levels.
"""

import io
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float64]
Pixels = NDArray[np.uint8]
Corruption = Callable[[Floats, float, np.random.Generator], Floats]

BLUR_REACH = 4  # deviations of the Gaussian that its kernel spans on each side
WHITE = 255


def gaussian_noise(images: Floats, deviation: float, rng: np.random.Generator) -> Floats:
    """Independent normal noise on each channel."""
    return images + rng.normal(0, deviation, images.shape)


def shot_noise(images: Floats, photons: float, rng: np.random.Generator) -> Floats:
    """Counting noise of so many photons at full white."""
    counted: Floats = rng.poisson(images * photons) / photons
    return counted


def impulse_noise(images: Floats, share: float, rng: np.random.Generator) -> Floats:
    """This share of the values becomes black or white, equally often."""
    hit, white = rng.random(images.shape) < share, rng.random(images.shape) < 0.5
    return np.where(hit, white.astype(np.float64), images)


def gaussian_blur(images: Floats, deviation_px: float, rng: np.random.Generator) -> Floats:  # noqa: ARG001
    """Convolution with a Gaussian; beyond the border the last pixel goes on."""
    reach = int(BLUR_REACH * deviation_px + 0.5)
    places = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (places / deviation_px) ** 2)
    weights /= weights.sum()
    for axis in (1, 2):
        margin = [(0, 0)] * 4
        margin[axis] = (reach, reach)
        padded, length = np.pad(images, margin, mode="edge"), images.shape[axis]
        shifted = [np.take(padded, np.arange(first, first + length), axis) for first in range(2 * reach + 1)]
        images = np.asarray(sum(weight * part for weight, part in zip(weights, shifted, strict=True)))
    return images


def contrast(images: Floats, share: float, rng: np.random.Generator) -> Floats:  # noqa: ARG001
    """This share of each value's distance from its channel's mean."""
    means = images.mean(axis=(1, 2), keepdims=True)
    return (images - means) * share + means


def jpeg(images: Floats, quality: float, rng: np.random.Generator) -> Floats:  # noqa: ARG001
    """There and back through a JPEG file of this quality."""
    return np.stack([_through_jpeg(image, int(quality)) for image in to_levels(images)]) / WHITE


CORRUPTIONS: Mapping[str, tuple[str, Corruption, tuple[float, ...]]] = {
    "gaussian_noise": ("noise", gaussian_noise, (0.04, 0.06, 0.08, 0.09, 0.10)),
    "shot_noise": ("noise", shot_noise, (500, 250, 100, 75, 50)),
    "impulse_noise": ("noise", impulse_noise, (0.01, 0.02, 0.03, 0.05, 0.07)),
    "gaussian_blur": ("blur", gaussian_blur, (0.4, 0.6, 0.7, 0.8, 1.0)),
    "contrast": ("contrast", contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
    "jpeg": ("jpeg", jpeg, (80, 65, 58, 50, 40)),
}
"""By name: its family, what it does, and its scale at severities 1 to 5."""
FAMILIES = tuple(dict.fromkeys(family for family, _, _ in CORRUPTIONS.values()))


def corrupted(images: Pixels, name: str, severity: int, seed: Sequence[int]) -> Pixels:
    """Images [N, H, W, C] uint8 under one corruption at severity 1 to 5; what it draws depends on the seed alone."""
    _, corrupt, scales = CORRUPTIONS[name]
    rng = np.random.default_rng([*seed, list(CORRUPTIONS).index(name), severity])
    return to_levels(corrupt(images / WHITE, scales[severity - 1], rng))


def to_levels(images: Floats) -> Pixels:
    """[..., C] in [0, 1], clamped, -> uint8."""
    levels: Pixels = np.rint(images.clip(0, 1) * WHITE).astype(np.uint8)
    return levels


def _through_jpeg(image: Pixels, quality: int) -> Pixels:
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file)).reshape(image.shape)
