"""An autoencoder's `decode` on a GPU, in parts whose tensors have at most 2^30 elements.

PyTorch's nearest up-sampling of channels-last memory refuses outputs of 2^31 elements on CUDA ("less than INT_MAX
elements", diffusers issue 3643): 32 images of 512 px of Stable Diffusion 1.5 have as many. Parts cost no time at such
sizes, and take less memory.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

MAX_ELEMENTS = 1 << 30


class SlicedDecoder:
    """Replaces `decode` of diffusers' AutoencoderKL: large batches are decoded in slices."""

    def __init__(self, autoencoder: Any, max_elements: int = MAX_ELEMENTS) -> None:
        self._decode: Callable[..., Any] = autoencoder.decode
        self._channels: Sequence[int] = autoencoder.config.block_out_channels
        self._max_elements = max_elements
        autoencoder.decode = self

    def __call__(self, latents: Tensor, return_dict: bool = True, **named: Any) -> Any:
        """Return the decoded images of latents [N, c, h, w], as the autoencoder would."""
        rows = self.rows(latents.shape[-2], latents.shape[-1])
        if len(latents) <= rows:
            return self._decode(latents, return_dict=return_dict, **named)
        parts = [self._decode(part, return_dict=False, **named)[0] for part in torch.split(latents, rows)]
        images = torch.cat(parts)
        if not return_dict:
            return (images,)
        from diffusers.models.autoencoders.vae import DecoderOutput

        return DecoderOutput(sample=images)

    def rows(self, height: int, width: int) -> int:
        """Return how many latents [c, height, width] one call takes: a power of two."""
        deep = len(self._channels) - 1
        # A level is entered at its resolution with the channels of the level below, enlarged before they shrink.
        widest: int = max(self._channels[min(level + 1, deep)] * 4 ** (deep - level) for level in range(deep + 1))
        rows = max(1, self._max_elements // (widest * height * width))
        return 1 << (rows.bit_length() - 1)


def slice_large_decodes(autoencoder: Any, device: str) -> None:
    """Make an AutoencoderKL on a GPU decode in slices; on a CPU, and for other classes, nothing changes."""
    if device != "cpu" and type(autoencoder).__name__ == "AutoencoderKL":
        SlicedDecoder(autoencoder)
