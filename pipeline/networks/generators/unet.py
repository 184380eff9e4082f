"""A small class-conditional U-Net on pixel patches: images, times and labels in, a field of the same shape out.

Residual blocks and skips as in Ho, Jain & Abbeel 2020 (DDPM, appendix B); scale and shift after the second norm as in
Dhariwal & Nichol 2021 (section 3.1, adaptive group normalisation). Patches of p x p pixels become p^2 channels first
(space to depth), which costs a fourth of the memory traffic at p = 2; on CPUs that is the bottleneck.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NULL_LABEL = -1
"""A label that stands for no class."""


@dataclass(frozen=True)
class UNetShape:
    """The numbers that fix a U-Net's weights; they stand in the metadata of its file.

    Raises ValueError where patches and levels do not divide the image, or groups do not divide the widths.
    """

    size_px: int = 28
    channels: int = 1
    classes: int = 10
    patch_px: int = 2
    widths: tuple[int, ...] = (64, 128)  # channels of each level; each has half the resolution of the one before
    blocks: int = 1  # residual blocks a level on the way down, and as many on the way up
    groups: int = 8  # of every group normalisation
    heads: int = 4  # of the attention at the lowest level; 0 = none
    embedding: int = 128  # of time and class

    def __post_init__(self) -> None:
        numbers = (self.size_px, self.channels, self.classes, self.patch_px, self.blocks, self.groups, self.embedding)
        if not self.widths or min(*numbers, *self.widths) < 1 or self.heads < 0:
            raise ValueError("every number of a U-Net is 1 or more (heads: 0 or more)")
        if self.size_px % (self.patch_px * 2 ** (len(self.widths) - 1)):
            raise ValueError(f"{self.size_px} px cannot be cut into {self.patch_px} px and halved again and again")
        if any(width % self.groups for width in self.widths) or self.embedding % 2:
            raise ValueError(f"widths {self.widths} must be multiples of {self.groups} groups, the embedding even")
        if self.heads and self.widths[-1] % self.heads:
            raise ValueError(f"the last width {self.widths[-1]} must be a multiple of {self.heads} heads")


class UNet(nn.Module):
    """Noisy images [N, C, S, S], times [N] in [0, 1], labels [N] int64 (-1 = none) -> [N, C, S, S] float32."""

    def __init__(self, shape: UNetShape) -> None:
        super().__init__()
        self.shape = shape
        widths, size = shape.widths, shape.embedding
        inward = shape.channels * shape.patch_px**2
        self.time = nn.Sequential(nn.Linear(size, size), nn.SiLU(), nn.Linear(size, size))
        self.label = nn.Embedding(shape.classes + 1, size)  # the last one: no class
        self.enter = nn.Conv2d(inward, widths[0], 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()  # all blocks, in the order they run
        self.smaller, self.larger = nn.ModuleList(), nn.ModuleList()
        held, skips = widths[0], []
        for level, width in enumerate(widths):
            for _ in range(shape.blocks):
                self.down.append(ResidualBlock(held, width, shape))
                held = width
                skips.append(width)
            if level + 1 < len(widths):
                self.smaller.append(nn.Conv2d(width, widths[level + 1], 3, stride=2, padding=1))
                held = widths[level + 1]
        self.middle = ResidualBlock(held, held, shape)
        self.attention = Attention(held, shape) if shape.heads else nn.Identity()
        for level in reversed(range(len(widths))):
            for _ in range(shape.blocks):
                self.up.append(ResidualBlock(held + skips.pop(), widths[level], shape))
                held = widths[level]
            if level:
                self.larger.append(nn.Conv2d(held, widths[level - 1] * 4, 1))
                held = widths[level - 1]
        self.leave_norm = nn.GroupNorm(shape.groups, held)
        self.leave = nn.Conv2d(held, inward, 3, padding=1)
        zero_init(self.leave)
        nn.init.normal_(self.label.weight, std=0.5)

    def forward(self, images: Tensor, times: Tensor, labels: Tensor) -> Tensor:
        shape = self.shape
        named = torch.where(labels == NULL_LABEL, shape.classes, labels)
        dtype = self.enter.weight.dtype  # of a network cast to half precision
        code = F.silu(self.time(fourier(times, shape.embedding).to(dtype)) + self.label(named))
        signal = F.pixel_unshuffle(images.to(dtype), shape.patch_px).contiguous(memory_format=torch.channels_last)
        signal = self.enter(signal)
        skips = []
        for index, block in enumerate(self.down):
            signal = block(signal, code)
            skips.append(signal)
            if (index + 1) % shape.blocks == 0 and index + 1 < len(self.down):
                signal = self.smaller[index // shape.blocks](signal)
        signal = self.attention(self.middle(signal, code))
        for index, block in enumerate(self.up):
            signal = block(torch.cat([signal, skips.pop()], dim=1), code)
            if (index + 1) % shape.blocks == 0 and index + 1 < len(self.up):
                signal = F.pixel_shuffle(self.larger[index // shape.blocks](signal), 2)
                signal = signal.contiguous(memory_format=torch.channels_last)
        signal = self.leave(F.silu(self.leave_norm(signal)))
        return F.pixel_shuffle(signal, shape.patch_px).float()


class ResidualBlock(nn.Module):
    """[N, inward, h, w] and the code of time and class [N, embedding] -> [N, outward, h, w]."""

    def __init__(self, inward: int, outward: int, shape: UNetShape) -> None:
        super().__init__()
        self.first_norm = nn.GroupNorm(shape.groups, inward)
        self.first = nn.Conv2d(inward, outward, 3, padding=1)
        self.moved = nn.Linear(shape.embedding, 2 * outward)  # scale and shift
        self.second_norm = nn.GroupNorm(shape.groups, outward)
        self.second = nn.Conv2d(outward, outward, 3, padding=1)
        self.skip = nn.Conv2d(inward, outward, 1) if inward != outward else nn.Identity()
        zero_init(self.second)

    def forward(self, signal: Tensor, code: Tensor) -> Tensor:
        inner = self.first(F.silu(self.first_norm(signal)))
        scale, shift = self.moved(code)[:, :, None, None].chunk(2, dim=1)
        inner = F.silu(torch.addcmul(shift, self.second_norm(inner), 1 + scale))
        made: Tensor = self.skip(signal) + self.second(inner)
        return made


class Attention(nn.Module):
    """Self-attention between all positions, added to its input [N, width, h, w]."""

    def __init__(self, width: int, shape: UNetShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.norm = nn.GroupNorm(shape.groups, width)
        self.inward = nn.Linear(width, 3 * width)
        self.outward = nn.Linear(width, width)
        zero_init(self.outward)

    def forward(self, signal: Tensor) -> Tensor:
        count, width, height, across = signal.shape
        tokens = self.norm(signal).permute(0, 2, 3, 1).reshape(count, height * across, width)
        parts = self.inward(tokens).view(count, -1, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(parts[0], parts[1], parts[2]).transpose(1, 2)
        added: Tensor = self.outward(mixed.reshape(count, -1, width))
        return signal + added.view(count, height, across, width).permute(0, 3, 1, 2)


@torch.no_grad()
def zero_init(layer: nn.Module) -> None:
    """Set a layer's weights to zero, so that its residual branch starts as the identity."""
    for parameter in layer.parameters():
        parameter.zero_()


def fourier(times: Tensor, size: int) -> Tensor:
    """Cosines and sines [N, size] of times [N] in [0, 1], at frequencies from 1 to 1000 evenly in logarithm."""
    frequencies = torch.exp(torch.linspace(0, math.log(1000.0), size // 2, device=times.device))
    angles = times.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)
