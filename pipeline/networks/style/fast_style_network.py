"""Fast style transfer: one feed-forward network per style (Johnson, Alahi & Fei-Fei 2016), with instance norm.

Papers: "Perceptual Losses for Real-Time Style Transfer and Super-Resolution", ECCV 2016, arXiv:1603.08155 (network:
section 3.1 and the supplement; losses: section 3.2); instance norm by Ulyanov, Vedaldi & Lempitsky 2016,
arXiv:1607.08022; nearest up-sampling before a convolution by Odena, Dumoulin & Olah 2016. The names of the weights
are those of the `fast_neural_style` example of PyTorch, so its checkpoints load as they are; so do its older ones,
which carry running statistics that instance norm never used. Widths and the number of residual blocks are read off
the shapes and names. Inside the network images are RGB in [0, 255]; `stylise` takes and gives [0, 1].
"""

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.errors import ModelError
from pipeline.model_files import model_file, weights
from pipeline.networks.folding import BlockConvolution, DoublingConvolution

ARCHITECTURE = "fast_style"
WIDTHS = (32, 64, 128)  # as published: at full, half and quarter resolution
BLOCKS = 5
LEVELS = 255  # the network's white
EPSILON = 1e-5  # of instance norm, inside the root
SPARSE = 8  # every so many rows and columns are enough for instance norm to come near its mean
MIN_SIDE = 8  # below 5 px the 9 x 9 convolutions, and below 2 at a quarter the 3 x 3 ones, have nothing to reflect
UNUSED = ("running_mean", "running_var", "num_batches_tracked")


class InstanceNorm(nn.Module):
    """Each channel of each image less its mean, over its deviation, then scaled and shifted; any [N, C, H, W].

    The variance is biased and 1e-5 is added inside the root. As `nn.InstanceNorm2d`, which however turns the
    channels-last memory of the convolutions around and back; a group norm of one channel a group does not. That one
    takes the variance from sums of squares, where a large mean cancels all digits, so a mean of a few positions goes
    off first: with a 64th of them, what is left of the mean is at most 8 deviations (Cauchy-Schwarz). In half precision
    the sums are taken in float32.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, images: Tensor) -> Tensor:
        signal = images if images.dtype is torch.float64 else images.float()
        about = signal[:, :, ::SPARSE, ::SPARSE].mean(dim=(2, 3), keepdim=True)
        return F.group_norm(signal - about, images.shape[1], self.weight, self.bias, EPSILON)


class Convolution(nn.Module):
    """Nearest up-sampling by `up`, reflection padding by half the kernel, and a convolution."""

    def __init__(self, inward: int, outward: int, kernel: int, stride: int = 1, up: int = 1) -> None:
        super().__init__()
        self.conv2d = nn.Conv2d(inward, outward, kernel, stride)
        self.up = up

    def forward(self, images: Tensor) -> Tensor:
        """[N, inward, H, W] -> [N, outward, ceil(up * H / stride), ceil(up * W / stride)]."""
        if self.up > 1:
            images = F.interpolate(images, scale_factor=self.up, mode="nearest")
        margin = self.conv2d.kernel_size[0] // 2
        made: Tensor = self.conv2d(F.pad(images, (margin,) * 4, mode="reflect"))
        return made


class Residual(nn.Module):
    """Two normalised 3x3 convolutions beside the identity; no rectifier after the sum. [N, C, H, W] -> the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.in1 = Convolution(width, width, 3), InstanceNorm(width)
        self.conv2, self.in2 = Convolution(width, width, 3), InstanceNorm(width)

    def forward(self, images: Tensor) -> Tensor:
        made: Tensor = self.in2(self.conv2(F.relu(self.in1(self.conv1(images)), inplace=True)))
        return made + images


class StyleNetwork(nn.Module):
    """The image transformation network: [N, 3, H, W] in [0, 255] -> [N, 3, H', W'], not clamped.

    H' is H rounded up to a multiple of 4, W' likewise; H and W are 5 or more.
    """

    def __init__(self, widths: tuple[int, int, int] = WIDTHS, blocks: int = BLOCKS) -> None:
        super().__init__()
        full, half, quarter = widths
        self.conv1, self.in1 = Convolution(3, full, 9), InstanceNorm(full)
        self.conv2, self.in2 = Convolution(full, half, 3, stride=2), InstanceNorm(half)
        self.conv3, self.in3 = Convolution(half, quarter, 3, stride=2), InstanceNorm(quarter)
        self._residuals = [f"res{number}" for number in range(1, blocks + 1)]
        for name in self._residuals:
            self.add_module(name, Residual(quarter))
        self.deconv1, self.in4 = Convolution(quarter, half, 3, up=2), InstanceNorm(half)
        self.deconv2, self.in5 = Convolution(half, full, 3, up=2), InstanceNorm(full)
        self.deconv3 = Convolution(full, 3, 9)

    def forward(self, images: Tensor) -> Tensor:
        signal = F.relu(self.in1(self.conv1(images)), inplace=True)
        signal = F.relu(self.in2(self.conv2(signal)), inplace=True)
        signal = F.relu(self.in3(self.conv3(signal)), inplace=True)
        for name in self._residuals:
            signal = self.get_submodule(name)(signal)
        signal = F.relu(self.in4(self.deconv1(signal)), inplace=True)
        signal = F.relu(self.in5(self.deconv2(signal)), inplace=True)
        made: Tensor = self.deconv3(signal)
        return made


def folded(network: StyleNetwork) -> StyleNetwork:
    """A copy that does the same in fewer operations (`pipeline/networks/folding.py`), for inference."""
    made = deepcopy(network)
    made.add_module("deconv1", DoublingConvolution(network.deconv1.conv2d))
    made.add_module("deconv2", DoublingConvolution(network.deconv2.conv2d))
    made.add_module("deconv3", BlockConvolution(network.deconv3.conv2d))
    return made


def stylise(network: nn.Module, images: Tensor, alpha: Tensor) -> Tensor:
    """Stylised images [N, 3, H, W] in [0, 1], of the size of `images` [N, 3, H, W] in [0, 1], whatever it is.

    alpha: [N], the share of the style in each pixel; 0 gives the image back, 1 is the network's answer, clamped.
    A side of no multiple of 4 comes out rounded up, with its first pixel in place, and is cut at the end. A side
    below 8 px is continued by its last pixel.
    """
    height, width = images.shape[-2:]
    missing = (0, max(0, MIN_SIDE - width), 0, max(0, MIN_SIDE - height))
    padded = F.pad(images, missing, mode="replicate") if any(missing) else images
    made: Tensor = network(padded * LEVELS)[:, :, :height, :width]
    share = alpha.to(images).view(-1, 1, 1, 1)
    return share * made.clamp(0, LEVELS) / LEVELS + (1 - share) * images


def total_variation(images: Tensor) -> Tensor:
    """Squared differences of neighbours, down and across, averaged over pixels (section 3.2). Scalar."""
    return (images[:, :, 1:] - images[:, :, :-1]).square().mean() + (
        images[:, :, :, 1:] - images[:, :, :, :-1]
    ).square().mean()


def feature_loss(features: Tensor, target: Tensor) -> Tensor:
    """Squared distance over C H W, averaged over the N of [N, C, H, W] (equation 2). Scalar."""
    return F.mse_loss(features, target)


def normalised_gram(features: Tensor) -> Tensor:
    """G [N, C, C] = sum over positions of F F^T, over C H W, of [N, C, H, W] (equation 3)."""
    flat = features.flatten(2)
    return flat @ flat.mT / (flat.shape[1] * flat.shape[2])


def style_loss(features: Tensor, target: Tensor) -> Tensor:
    """Squared Frobenius norm of G - target, averaged over the N of [N, C, H, W] (equation 4). Scalar.

    target: [N or 1, C, C] from `normalised_gram` of the style image.
    """
    return (normalised_gram(features) - target).square().sum(dim=(1, 2)).mean()


def load_network(path: str | Path) -> StyleNetwork:
    """A frozen network in eval mode from a .safetensors file, or from a .pth one without pickle.

    Raises ModelError, in one line, for a missing or damaged file and for weights of any other architecture.
    """
    state = {name: value for name, value in weights.load_state(path).items() if name.split(".")[-1] not in UNUSED}
    widths = _width(state, "conv1"), _width(state, "conv2"), _width(state, "conv3")
    if not all(widths):
        raise ModelError(f"weights {path}: no fast style network in it (its layers have other names or shapes)")
    blocks = len({name.split(".")[0] for name in state if name.startswith("res")})
    return weights.fill(StyleNetwork(widths, blocks), state, path, "a fast style network")


def save_network(path: str | Path, network: StyleNetwork, about: str = "") -> None:
    """The network as safetensors, float16, under the names it loads by."""
    model_file.save_model(path, ARCHITECTURE, {}, (), network.state_dict(), about)


def _width(state: Mapping[str, Tensor], name: str) -> int:
    weight = state.get(f"{name}.conv2d.weight")
    return int(weight.shape[0]) if weight is not None and weight.ndim == 4 else 0
