"""WGAN-GP with classes: a generator of small images, its critic, and their losses (Gulrajani et al. 2017).

Paper: "Improved Training of Wasserstein GANs", NeurIPS 2017, arXiv:1704.00028. The generator norms its batches and
takes the class as gain and bias after each norm (Dumoulin et al. 2017, section 2.2); the critic has no batch norm
(paper, section 4), and the class enters it as a projection (Miyato & Koyama 2018, equation 3). Images are float
[N, C, S, S] in [-1, 1], latents [N, latent] standard normal, labels [N] int64 in [0, classes).
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.model_files import model_file

ARCHITECTURE = "wgan-generator/1"
PENALTY_WEIGHT = 10.0  # lambda of equation 3
DRIFT_WEIGHT = 1e-3  # keeps the critic's scores near 0, where float16 is exact (Karras et al. 2018, appendix A.1)
SLOPE = 0.2  # of leaky ReLU

Critics = Callable[[Tensor, Tensor], Tensor]
"""Images and labels -> scores [N]."""


@dataclass(frozen=True)
class GeneratorShape:
    """The numbers that fix a generator's weights; they stand in the metadata of its file.

    Raises ValueError where the size is no multiple of 4 or a number is below 1.
    """

    size_px: int = 28
    channels: int = 1
    classes: int = 10
    latent: int = 64
    widths: tuple[int, int, int] = (96, 64, 16)  # channels at a fourth, at half and at full size

    def __post_init__(self) -> None:
        if min(self.size_px, self.channels, self.classes, self.latent, *self.widths) < 1 or len(self.widths) != 3:
            raise ValueError("every number of a generator is 1 or more, and there are three widths")
        if self.size_px % 4:
            raise ValueError(f"{self.size_px} px is no multiple of 4")


class ClassNorm(nn.Module):
    """Batch norm whose gain and bias are the class's own: [N, width, h, w] and labels [N] -> the same shape."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width, affine=False)
        self.gain = nn.Embedding(classes, width)
        self.bias = nn.Embedding(classes, width)
        nn.init.ones_(self.gain.weight)
        nn.init.zeros_(self.bias.weight)

    def forward(self, signal: Tensor, labels: Tensor) -> Tensor:
        gain, bias = self.gain(labels)[:, :, None, None], self.bias(labels)[:, :, None, None]
        return torch.addcmul(bias, self.norm(signal), gain)


class Generator(nn.Module):
    """Latents [N, latent] and labels [N] in [0, classes) -> images [N, C, S, S] in [-1, 1]."""

    def __init__(self, shape: GeneratorShape) -> None:
        super().__init__()
        self.shape = shape
        first, second, third = shape.widths
        self.start_px = shape.size_px // 4
        self.label = nn.Embedding(shape.classes, shape.latent)
        self.enter = nn.Linear(2 * shape.latent, first * self.start_px**2)
        self.norms = nn.ModuleList(ClassNorm(width, shape.classes) for width in (first, first, second, third))
        self.small = nn.Conv2d(first, first, 3, padding=1)
        self.middle = nn.Conv2d(first, 4 * second, 3, padding=1)
        self.large = nn.Conv2d(second, 4 * third, 3, padding=1)
        self.leave = nn.Conv2d(third, shape.channels, 3, padding=1)

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        signal = self.enter(torch.cat([latents, self.label(labels)], dim=1))
        signal = signal.view(len(latents), self.start_px, self.start_px, -1).permute(0, 3, 1, 2)
        signal = F.relu(self.norms[0](signal, labels))
        signal = F.relu(self.norms[1](self.small(signal), labels))
        signal = F.relu(self.norms[2](_shuffled(self.middle(signal)), labels))
        signal = F.relu(self.norms[3](_shuffled(self.large(signal)), labels))
        return torch.tanh(self.leave(signal)).float()


def _shuffled(signal: Tensor) -> Tensor:
    """Twice the resolution from a fourth of the channels."""
    return F.pixel_shuffle(signal, 2).contiguous(memory_format=torch.channels_last)


class Critic(nn.Module):
    """Images [N, C, S, S] in [-1, 1] and labels [N] -> scores [N], higher for what looks real. No norm at all."""

    def __init__(self, shape: GeneratorShape, width: int = 32, features: int = 128) -> None:
        super().__init__()
        side = shape.size_px
        self.layers = nn.ModuleList()
        inward = shape.channels
        for outward in (width, 2 * width, 4 * width):
            self.layers.append(nn.Conv2d(inward, outward, 4, stride=2, padding=1 if side % 2 == 0 else 2))
            inward, side = outward, (side + 1) // 2
        self.features = nn.Linear(inward * side**2, features)
        self.score = nn.Linear(features, 1)
        self.label = nn.Embedding(shape.classes, features)
        nn.init.normal_(self.label.weight, std=0.1)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        signal = images.contiguous(memory_format=torch.channels_last)
        for layer in self.layers:
            signal = F.leaky_relu(layer(signal), SLOPE)
        signal = F.leaky_relu(self.features(signal.flatten(1)), SLOPE)
        scores: Tensor = self.score(signal)[:, 0] + (signal * self.label(labels)).sum(dim=1)
        return scores.float()


def gradient_penalty(critic: Critics, real: Tensor, fake: Tensor, labels: Tensor, share: Tensor) -> Tensor:
    """Mean of (|gradient of the score by the image| - 1)^2 at points between real and fake (equation 3). Scalar.

    share: [N] in [0, 1], how much of each point is real; the paper draws it uniformly.
    """
    part = share.view(-1, *[1] * (real.dim() - 1))
    between = (part * real + (1 - part) * fake).detach().requires_grad_(True)
    (slope,) = torch.autograd.grad(critic(between, labels).sum(), between, create_graph=True)
    penalty: Tensor = (slope.flatten(1).norm(dim=1) - 1).square().mean()
    return penalty


def critic_loss(real_scores: Tensor, fake_scores: Tensor, penalty: Tensor) -> Tensor:
    """Loss of the critic (equation 3), with the drift term. Scores [N] each, penalty a scalar. Scalar."""
    drift = DRIFT_WEIGHT * real_scores.square().mean()
    return fake_scores.mean() - real_scores.mean() + PENALTY_WEIGHT * penalty + drift


def generator_loss(fake_scores: Tensor) -> Tensor:
    """Loss of the generator: the negative mean score of its images. Scores [N]. Scalar."""
    return -fake_scores.mean()


def truncated(latents: Tensor, truncation: Tensor) -> Tensor:
    """Latents [N, latent] scaled by truncation [N] in (0, 1]: nearer to the mean image, less variety; 1 = as they are.

    Scaling, not resampling: a sample's latent is a function of its own noise alone, and no draw is thrown away.
    """
    return latents * truncation[:, None]


def save_generator(path: str | Path, net: Generator, classes: tuple[str, ...] = (), about: str = "") -> None:
    """Write weights (float16), shape and class names to one safetensors file, whole or not at all."""
    model_file.save_model(path, ARCHITECTURE, asdict(net.shape), classes, net.state_dict(), about)


def load_generator(path: str | Path) -> tuple[Generator, tuple[str, ...]]:
    """A frozen generator in eval mode, and its class names. Raises ModelError for a file of anything else."""
    return model_file.load_model(path, ARCHITECTURE, _built)


def _built(numbers: dict[str, Any]) -> Generator:
    return Generator(GeneratorShape(**numbers | {"widths": tuple(numbers["widths"])}))
