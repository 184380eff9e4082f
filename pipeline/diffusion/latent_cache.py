"""A source's latents, encoded once for all its copies: an autoencoder's `encode` that remembers single images.

Pipelines encode image by image where each has a generator of its own, so an image's latents depend on nothing else,
and what is remembered is what would be made again. Drawing from a distribution of latents stays the sample's own.
"""

import hashlib
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor

CACHE_BYTES = 256 << 20
"""Of distributions kept at most: 650 of 512 px images, each with its mean, deviation and variance."""

_TENSORS_PER_DISTRIBUTION = 3  # numbers kept for each number of a distribution's parameters


class LatentCache:
    """Put in the place of `autoencoder.encode`. `encoded` counts the images that went through the network."""

    def __init__(self, autoencoder: Any) -> None:
        self._encode = autoencoder.encode
        self._cache: OrderedDict[bytes, Any] = OrderedDict()
        self._bytes = 0
        self.encoded = 0
        autoencoder.encode = self

    def __call__(self, images: Tensor, *more: Any, **named: Any) -> Any:
        """What the autoencoder answers to images [N, C, H, W]; only answers to one image are kept."""
        if len(images) != 1 or more or named:
            self.encoded += len(images)
            return self._encode(images, *more, **named)
        key = _key(images)
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        self.encoded += 1
        found = self._encode(images)
        size = _size(found)
        if size:  # an answer without a distribution is not known to be one that can be kept
            self._cache[key] = found
            self._bytes += size
            while self._bytes > CACHE_BYTES and len(self._cache) > 1:
                self._bytes -= _size(self._cache.popitem(last=False)[1])
        return found


def _key(images: Tensor) -> bytes:
    """A digest of numbers, type and shape."""
    flat = images.detach().contiguous().cpu().flatten()
    seen = hashlib.sha256(f"{images.dtype} {tuple(images.shape)}".encode())
    seen.update(flat.view(torch.uint8).numpy().data)
    return seen.digest()


def _size(answer: Any) -> int:
    parameters = getattr(getattr(answer, "latent_dist", None), "parameters", None)
    return _TENSORS_PER_DISTRIBUTION * parameters.nbytes if isinstance(parameters, Tensor) else 0
