"""Narrow VGGs with drawn weights, as state dicts and files of torchvision's layout."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from pipeline.models.vgg import DEPTHS

WIDTHS = (4, 6, 8, 8, 8)  # of the five blocks


def vgg_state(family: str = "vgg19", widths: Sequence[int] = WIDTHS, seed: int = 0) -> dict[str, Tensor]:
    """Convolutions drawn so that the signal keeps its size, and a classifier that nobody is to read."""
    generator = torch.Generator().manual_seed(seed)
    state, place, inward = {}, 0, 3
    for width, depth in zip(widths, DEPTHS[family], strict=True):
        for _ in range(depth):
            weight = torch.randn(width, inward, 3, 3, generator=generator) * (2 / (9 * inward)) ** 0.5
            state[f"features.{place}.weight"] = weight
            state[f"features.{place}.bias"] = 0.1 * torch.randn(width, generator=generator)
            inward, place = width, place + 2
        place += 1
    return state | {"classifier.0.weight": torch.zeros(2, 2), "classifier.0.bias": torch.zeros(2)}


def write_vgg(path: Path, family: str = "vgg19", **options: int) -> Path:
    """Save one as .pth; return its path."""
    torch.save(vgg_state(family, **options), path)
    return path
