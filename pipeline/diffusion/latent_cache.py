"""A cache of the latent distributions that an autoencoder encodes, so that the copies of a source encode it once.

Pipelines encode image by image where each has a generator of its own, so a distribution depends on its image alone,
and a cached one equals a new one. Each sample still draws its own latents from the distribution.
"""

import hashlib
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor

CACHE_BYTES = 256 << 20
"""The most that the cache holds: 650 distributions of 512 px images, each with mean, deviation and variance."""

_TENSORS_PER_DISTRIBUTION = 3  # numbers kept for each number of a distribution's parameters


class LatentCache:
    """Replaces `autoencoder.encode` with a least-recently-used cache. `encoded` counts the misses."""

    def __init__(self, autoencoder: Any) -> None:
        self._encode = autoencoder.encode
        self._cache: OrderedDict[bytes, Any] = OrderedDict()
        self._bytes = 0
        self.encoded = 0
        autoencoder.encode = self

    def __call__(self, images: Tensor, *more: Any, **named: Any) -> Any:
        """Return the autoencoder's output for images [N, C, H, W]; only outputs for a single image are cached."""
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
        if size:  # an output without a latent distribution is not cached
            self._cache[key] = found
            self._bytes += size
            while self._bytes > CACHE_BYTES and len(self._cache) > 1:
                self._bytes -= _size(self._cache.popitem(last=False)[1])
        return found


def _key(images: Tensor) -> bytes:
    """Return the sha256 of an image tensor's values, dtype and shape."""
    flat = images.detach().contiguous().cpu().flatten()
    seen = hashlib.sha256(f"{images.dtype} {tuple(images.shape)}".encode())
    seen.update(flat.view(torch.uint8).numpy().data)
    return seen.digest()


def _size(answer: Any) -> int:
    parameters = getattr(getattr(answer, "latent_dist", None), "parameters", None)
    return _TENSORS_PER_DISTRIBUTION * parameters.nbytes if isinstance(parameters, Tensor) else 0
