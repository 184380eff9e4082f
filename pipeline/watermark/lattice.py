"""What the key determines of the mark: which coefficients form a projection, their signs, and the dither.

Everything is drawn from SHAKE-256 of an HMAC of the key, so a mark can be read in any later version of any library.
"""

import hashlib
import hmac
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.watermark.payload import BITS

RATE = 2  # coded values a bit
TERMS = BITS * RATE  # M: projections of an image
SHORTEST_SIDE = 16
FROM_SIDE = {12: SHORTEST_SIDE, 16: 48, 32: 96, 64: 192}  # band: shorter side it is taken from
LOW = {12: 2, 16: 6, 32: 12, 64: 24}  # v + u from here on: below lies most energy, so a gain or clipping moves it most
BANDS = tuple(FROM_SIDE)


def band_of(height: int, width: int) -> int:
    """Return the band B of an image, coefficients (v, u) with v, u < B; 0 for one too small for any.

    From 48 px on it is at most a third of the shorter side: a copy of half the size holds it all, and JPEG treats it
    gently.
    """
    return max((band for band, side in FROM_SIDE.items() if side <= min(height, width)), default=0)


@dataclass(frozen=True)
class Lattice:
    """One band's projections: M disjoint groups of G coefficients, all of weight 1 / sqrt(G).

    `index` [M, G] int64 into the flat [B * B] coefficients; `signs` [M, G] float64 +-1; `dither` [M] float64, cells in
    [0, 1).
    """

    band: int
    index: torch.Tensor
    signs: torch.Tensor
    dither: torch.Tensor

    @property
    def group(self) -> int:
        """Return G."""
        return self.index.shape[1]

    def project(self, coefficients: torch.Tensor, scale: float) -> torch.Tensor:
        """Return [N, M] projections of [N, B, B] coefficients that are `scale` times too large; the sum is exact."""
        chosen = coefficients.reshape(len(coefficients), -1)[:, self.index.reshape(-1)].reshape(-1, *self.index.shape)
        sums: torch.Tensor = (chosen * self.signs).sum(dim=2)
        return sums / float(scale * self.group**0.5)

    def spread(self, change: torch.Tensor) -> torch.Tensor:
        """Return the [N, B, B] coefficients whose projections are `change` [N, M]: the transpose of `project`."""
        flat = torch.zeros(len(change), self.band * self.band, dtype=change.dtype, device=change.device)
        shares = change[:, :, None] * (self.signs / self.group**0.5)
        flat[:, self.index.reshape(-1)] = shares.reshape(len(change), -1)
        return flat.reshape(-1, self.band, self.band)


def lattice(key: bytes, band: int, device: torch.device) -> Lattice:
    """Return the lattice that `key` draws in `band`."""
    grid = np.add.outer(np.arange(band), np.arange(band)).reshape(-1)
    places = np.flatnonzero(grid >= LOW[band])
    group = len(places) // TERMS
    order = np.argsort(_stream(key, f"order/{band}", len(places)), kind="stable")
    index = places[order[: TERMS * group]].reshape(TERMS, group)
    signs = 1.0 - 2.0 * (_stream(key, f"signs/{band}", TERMS * group) >> np.uint64(63)).astype(np.float64)
    dither = (_stream(key, f"dither/{band}", TERMS) >> np.uint64(32)).astype(np.float64) / 2.0**32
    return Lattice(
        band=band,
        index=torch.from_numpy(index.astype(np.int64)).to(device),
        signs=torch.from_numpy(signs.reshape(TERMS, group)).to(device),
        dither=torch.from_numpy(dither).to(device),
    )


def _stream(key: bytes, purpose: str, count: int) -> "np.ndarray[tuple[int], np.dtype[np.uint64]]":
    """Return `count` uniform 64-bit integers, a pure function of key and purpose."""
    seed = hmac.new(key, b"palimpsest lattice/" + purpose.encode(), hashlib.sha256).digest()
    return np.frombuffer(hashlib.shake_256(seed).digest(8 * count), dtype="<u8").astype(np.uint64)
