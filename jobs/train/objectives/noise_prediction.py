"""The loss of diffusion models (DDPM): predict the noise that was added (epsilon), or the velocity (v).

Ho, Jain & Abbeel 2020, "Denoising Diffusion Probabilistic Models", arXiv:2006.11239, equations 4 and 14; Salimans & Ho
2022, arXiv:2202.00512, section 4 (v-prediction). Shares [N] are alpha-bar_t, the share of the variance that is image.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

KINDS = ("epsilon", "v_prediction")


def add_noise(images: Tensor, noise: Tensor, shares: Tensor) -> Tensor:
    """x_t = sqrt(alpha-bar) x_0 + sqrt(1 - alpha-bar) epsilon, of the images' shape [N, C, H, W] (equation 4)."""
    image, rest = _roots(images, shares)
    return image * images + rest * noise


def prediction_target(kind: str, images: Tensor, noise: Tensor, shares: Tensor) -> Tensor:
    """The target of the prediction at x_t: epsilon, or v = sqrt(alpha-bar) epsilon - sqrt(1 - alpha-bar) x_0.

    Raises ValueError for a kind of prediction that is neither `epsilon` nor `v_prediction`.
    """
    if kind == "epsilon":
        return noise
    if kind == "v_prediction":
        image, rest = _roots(images, shares)
        return image * noise - rest * images
    raise ValueError(f"prediction type {kind!r} is not known; known: {', '.join(KINDS)}")


def prediction_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean squared distance, every time counted alike (Ho et al. 2020, equation 14). Scalar, in full precision."""
    return F.mse_loss(predicted.float(), target.float())


def _roots(images: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
    share = shares.to(images).view(-1, *[1] * (images.dim() - 1))
    return torch.sqrt(share), torch.sqrt(1 - share)
