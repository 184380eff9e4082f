"""Flow matching in pixel space: a straight path from images to noise, and a network that learns its velocity.

Papers: Lipman et al. 2023, "Flow Matching for Generative Modeling", arXiv:2210.02747, section 4.1 (the straight path);
Esser et al. 2024, "Scaling Rectified Flow Transformers", arXiv:2403.03206, section 3.1 (logit-normal times); Ho &
Salimans 2022, "Classifier-Free Diffusion Guidance", arXiv:2207.12598 (labels left out at random while training).
Images are float [N, C, S, S] in [-1, 1]; time t is 0 at the image and 1 at the noise; label -1 stands for no class.
"""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.errors import ModelError
from pipeline.model_files import model_file
from pipeline.networks.generators.unet import NULL_LABEL, UNet, UNetShape

ARCHITECTURE = "flow-unet/1"
STEPS = "steps"  # in the metadata

Velocity = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Noisy images [N, C, S, S], times [N], labels [N] -> velocity, of the images' shape."""


def interpolate_to_noise(images: Tensor, noise: Tensor, times: Tensor) -> Tensor:
    """Points of the straight path, x_t = (1 - t) x_0 + t epsilon; times [N] (Lipman et al. 2023, equation 22)."""
    share = times.view(-1, *[1] * (images.dim() - 1))
    return (1 - share) * images + share * noise


def logit_normal_times(normal: Tensor) -> Tensor:
    """Times in (0, 1) from standard normal numbers: most in the middle (Esser et al. 2024, equation 19; m 0, s 1)."""
    return normal.sigmoid()


def drop_labels(labels: Tensor, uniform: Tensor, share: float) -> Tensor:
    """Labels, -1 where `uniform` [N] in [0, 1) is below `share` (Ho & Salimans 2022, algorithm 1)."""
    return torch.where(uniform < share, NULL_LABEL, labels)


def flow_loss(net: Velocity, images: Tensor, labels: Tensor, noise: Tensor, times: Tensor) -> Tensor:
    """Mean squared distance of the network's velocity to epsilon - x_0 (Lipman et al. 2023, equation 23). Scalar."""
    return F.mse_loss(net(interpolate_to_noise(images, noise, times), times, labels), noise - images)


def save_flow(
    path: str | Path, net: UNet, classes: tuple[str, ...] = (), about: str = "", steps: int | None = None
) -> None:
    """Write weights (float16), shape and class names to one safetensors file, whole or not at all.

    steps: how many Euler steps from noise to image a distilled network was made for; None: any number.
    """
    more = {} if steps is None else {STEPS: str(steps)}
    model_file.save_model(path, ARCHITECTURE, asdict(net.shape), classes, net.state_dict(), about, more=more)


def load_flow(path: str | Path) -> tuple[UNet, tuple[str, ...]]:
    """A frozen network in eval mode, and its class names. Raises ModelError for a file of anything else."""
    return model_file.load_model(path, ARCHITECTURE, _built)


def distilled_steps(path: str | Path) -> int | None:
    """How many Euler steps the network in a file was distilled for; None: any number. Raises ModelError."""
    said = model_file.read_metadata(path).get(STEPS)
    if said is None:
        return None
    if not said.isdecimal() or int(said) < 1:
        raise ModelError(f"model {path}: its metadata says {STEPS}: {said!r}; needed: a whole number from 1")
    return int(said)


def _built(numbers: dict[str, Any]) -> UNet:
    return UNet(UNetShape(**numbers | {"widths": tuple(numbers["widths"])}))
