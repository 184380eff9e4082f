"""Noise tensors with one torch generator a sample, so that an image's noise is the same in any batch, on any device."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


class Noise:
    """The noise of one batch. Each call draws the next numbers of every sample's own generator.

    Noise is drawn on the CPU and moved to the device, since CPU and CUDA generators differ.
    """

    def __init__(self, seeds: Sequence[int], device: str = "cpu") -> None:
        self._seeds = seeds
        self._device = device
        self._generators: list[torch.Generator] | None = None

    def normal(self, *shape: int) -> "torch.Tensor":
        """Return standard normal noise, [N, *shape] float32 on the batch's device."""
        return self._stack("randn", shape)

    def uniform(self, *shape: int) -> "torch.Tensor":
        """Return uniform noise in [0, 1), [N, *shape] float32 on the batch's device."""
        return self._stack("rand", shape)

    def _stack(self, kind: str, shape: tuple[int, ...]) -> "torch.Tensor":
        import torch

        if self._generators is None:
            self._generators = [torch.Generator().manual_seed(seed) for seed in self._seeds]
        draw = getattr(torch, kind)
        return torch.stack([draw(shape, generator=generator) for generator in self._generators]).to(self._device)
