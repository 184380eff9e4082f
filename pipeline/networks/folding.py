"""Convolutions folded into fewer operations: the same results but for the order of their sums.

A convolution after nearest up-sampling sees every pixel several times. Its filters can be added up beforehand, one sum
for each of the four places of an output pixel inside its block, so that 2 x 2 taps at the low resolution do what 3 x 3
did at the high one: 4 multiplications for 9 (the sub-pixel view of Shi et al. 2016, arXiv:1609.07009). And where there
are few output channels, which leave most lanes of a processor's vectors empty, a block of pixels can be made at once.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EVEN, ODD = ((1, 0, 0), (0, 1, 1)), ((1, 1, 0), (0, 0, 1))
"""Which of 3 taps after doubling fall on the first and on the second of 2 pixels before it."""


class DoublingConvolution(nn.Module):
    """Nearest up-sampling by 2, reflection padding by 1 and a 3 x 3 convolution: [N, I, H, W] -> [N, O, 2H, 2W]."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        weight = convolution.weight.detach()
        taps = torch.tensor([EVEN, ODD], dtype=torch.float64, device=weight.device)
        folded = torch.einsum("oikl,pak,qbl->pqoiab", weight.double(), taps, taps)
        self.outward = len(weight)
        self.register_buffer("weight", _kernel(folded.flatten(0, 2), weight))
        self.register_buffer("bias", _bias(convolution).repeat(4))
        self.weight: Tensor
        self.bias: Tensor

    def forward(self, images: Tensor) -> Tensor:
        count, _, height, width = images.shape
        padded = F.pad(images, (1, 1, 1, 1), mode="replicate")  # reflection after doubling is repetition before it
        parts = F.conv2d(padded, self.weight, self.bias).view(count, 2, 2, self.outward, height + 1, width + 1)
        made = images.new_empty((count, 2 * height, 2 * width, self.outward)).permute(0, 3, 1, 2)
        for down in (0, 1):
            for across in (0, 1):
                shifted = parts[:, down, across, :, down : down + height, across : across + width]
                made[:, :, down::2, across::2] = shifted
        return made


class BlockConvolution(nn.Module):
    """Reflection padding and a K x K convolution, K odd, of 2 x 2 pixels at once: [N, I, 2h, 2w] -> [N, O, 2h, 2w]."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        weight = convolution.weight.detach()
        outward, inward, kernel, _ = weight.shape
        spread = weight.new_zeros(outward, 2, 2, inward, kernel + 1, kernel + 1)
        for down in (0, 1):
            for across in (0, 1):
                spread[:, down, across, :, down : down + kernel, across : across + kernel] = weight
        self.margin = kernel // 2
        self.register_buffer("weight", _kernel(spread.flatten(0, 2), weight))
        self.register_buffer("bias", _bias(convolution).repeat_interleave(4))
        self.weight: Tensor
        self.bias: Tensor

    def forward(self, images: Tensor) -> Tensor:
        padded = F.pad(images, (self.margin,) * 4, mode="reflect")
        return F.pixel_shuffle(F.conv2d(padded, self.weight, self.bias, stride=2), 2)


def fold_doublings(network: nn.Sequential) -> nn.Sequential:
    """A network that shares the layers of `network`, with each doubling folded into the convolution after it."""
    layers: list[nn.Module] = []
    rest = list(network)
    while rest:
        if isinstance(rest[0], nn.Upsample):
            _check(rest[0], rest[1])
            layers.append(DoublingConvolution(cast(nn.Conv2d, rest[2])))
            rest = rest[3:]
        else:
            layers.append(rest.pop(0))
    return nn.Sequential(*layers)


def _check(doubling: nn.Upsample, padding: nn.Module) -> None:
    if doubling.mode != "nearest" or doubling.scale_factor != 2 or not isinstance(padding, nn.ReflectionPad2d):
        raise ValueError(f"{doubling} and {padding} are no doubling that can be folded into a convolution")


def _kernel(weight: Tensor, like: Tensor) -> Tensor:
    return weight.to(like.dtype).contiguous(memory_format=torch.channels_last)


def _bias(convolution: nn.Conv2d) -> Tensor:
    if convolution.bias is None:
        return convolution.weight.new_zeros(convolution.out_channels)
    return convolution.bias.detach()
