"""A distribution of styles: a Gaussian over the feature statistics that AdaIN gives an image.

Jackson et al. 2018 (arXiv:1809.05375), section 3: style embeddings are drawn from a multivariate normal whose mean and
covariance are those of a set of paintings. Here an embedding is v = (mu, log sigma), the mean and the logarithm of the
deviation of every channel at the encoder's last layer: a drawn deviation is positive. With n images the covariance has
rank n - 1 at most, so it is kept as a factor F [2C, k] of the k directions of the greatest variance:
v = mean + F z, z ~ N(0, I). A drawn mean below 0 becomes 0: the layer is a ReLU.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from pipeline.errors import ModelError
from pipeline.model_files.weights import in_order
from pipeline.networks.style.regional_adain import Statistics

MIN_IMAGES = 2
ENCODER, IMAGES = "encoder_sha256", "images"  # what a file says of itself


@dataclass(frozen=True)
class StyleDistribution:
    """`mean` [2C] and `factor` [2C, k], float32; the encoder they are of (`encoder_sha256`), and images fitted to."""

    mean: Tensor
    factor: Tensor
    encoder: str
    images: int

    @property
    def rank(self) -> int:
        return int(self.factor.shape[1])

    def statistics(self, coefficients: Tensor) -> Statistics:
        """Return mean and deviation [N, C, 1, 1] float32 of coefficients z [N, <= k] float64."""
        factor = self.factor[:, : coefficients.shape[1]].to(coefficients)
        vectors = self.mean.to(coefficients) + coefficients @ factor.T
        mean, log_deviation = vectors[:, :, None, None].chunk(2, dim=1)
        return mean.clamp_min(0).float(), log_deviation.exp().float()

    def to_bytes(self) -> bytes:
        """Return it as a safetensors file, the same bytes for the same values."""
        tensors = {"mean": self.mean.contiguous(), "factor": self.factor.contiguous()}
        return in_order(save(tensors, {ENCODER: self.encoder, IMAGES: str(self.images)}))


def fit_distribution(reference_set: Sequence[Statistics], rank: int, encoder: str) -> StyleDistribution:
    """Fit the Gaussian to the statistics of n styles, each [1, C, 1, 1], in float64; at most `rank` directions.

    Raises ModelError where there are fewer than two styles, or they are all alike.
    """
    if len(reference_set) < MIN_IMAGES:
        raise ModelError(
            f"a distribution of styles needs {MIN_IMAGES} images at least, and there are {len(reference_set)}"
        )
    vectors = torch.stack([torch.cat([mean.flatten(), std.flatten().log()]) for mean, std in reference_set]).double()
    mean = vectors.mean(dim=0)
    _, lengths, directions = torch.linalg.svd(vectors - mean, full_matrices=False)
    kept = min(rank, int((lengths > 1e-9 * max(1.0, float(lengths[0]))).sum()))
    if kept == 0:
        raise ModelError(f"a distribution of styles needs images that differ, and all {len(reference_set)} are alike")
    factor = (directions[:kept] * (lengths[:kept] / (len(reference_set) - 1) ** 0.5)[:, None]).T
    return StyleDistribution(mean.float(), factor.float(), encoder, len(reference_set))


def read_distribution(data: bytes, where: str | Path, encoder: nn.Sequential) -> StyleDistribution:
    """Return the distribution in a file's bytes, made for this very encoder.

    Raises ModelError where the file holds something else, or its statistics are of another encoder's features.
    """
    try:
        tensors = load(data)
        said = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__", {})
    except (SafetensorError, ValueError) as error:
        raise ModelError(f"distribution {where}: cannot be read: {error}") from None
    mean, factor = tensors.get("mean"), tensors.get("factor")
    if mean is None or factor is None or ENCODER not in said or mean.ndim != 1 or factor.shape[:1] != mean.shape:
        raise ModelError(f"distribution {where}: holds no mean [2C] and factor [2C, k] of styles")
    if not (mean.isfinite().all() and factor.isfinite().all()):
        raise ModelError(f"distribution {where}: holds values that are not finite")
    if said[ENCODER] != encoder_sha256(encoder):
        raise ModelError(
            f"distribution {where}: fitted to the features of another encoder ({said[ENCODER][:12]}); give `styles` to "
            "fit one to this encoder"
        )
    return StyleDistribution(mean.float(), factor.float(), said[ENCODER], int(said.get(IMAGES, 0)))


def encoder_sha256(encoder: nn.Sequential) -> str:
    """Hex sha256 of an encoder's names, shapes and weights: the same for a file of its own and one with a decoder."""
    found = hashlib.sha256()
    for name, value in sorted(encoder.state_dict().items()):
        found.update(f"{name} {tuple(value.shape)} ".encode())
        found.update(value.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return found.hexdigest()
