"""The low frequencies of an image, computed exactly: the same bits in any batch, on any thread or device.

    luma [N, H, W] ──rows──▶ [N, H, B] ──columns──▶ coefficients [N, B, B]        two small matrix products each way

Bases are rounded to multiples of 2^-14 and what stands between the two products to multiples of 2^-10 (2^-16 on the
way back), so every product and every partial sum is a multiple of a power of two that float64 holds without rounding
(at most 53 bits, for sides up to 8192). Sums are then exact, and their order, which is all that batch size, threads,
BLAS and devices change, is of no consequence. It needs float64: on a GPU still one of its matrix operations.

Coefficient (v, u) is the amplitude in grey levels of cos(pi v (2y + 1) / 2H) cos(pi u (2x + 1) / 2W), scaled to mean
square 1: it does not change when the image is resized, and the sum of squares of all of them is the mean square of
the image.
"""

from functools import lru_cache

import numpy as np
import torch

LONGEST_SIDE = 8192
BASIS_GRID = 2.0**14
FORWARD_GRID = 2.0**10
COEFFICIENT_GRID = 2.0**20
INVERSE_GRID = 2.0**16
LUMA = (77, 150, 29)  # BT.601 weights in 256ths; their sum is 256, so an equal change of R, G, B is that change of luma


def luma(planes: torch.Tensor) -> torch.Tensor:
    """Return [N, H, W] float64 luma in [0, 255], multiples of 1/256, of [N, C, H, W] uint8 (C = 1 or 3)."""
    if planes.shape[1] == 1:
        return planes[:, 0].to(torch.float64)
    total = planes[:, 0].to(torch.float32) * LUMA[0]  # whole numbers under 2^16: exact
    for channel in (1, 2):
        total += planes[:, channel].to(torch.float32) * LUMA[channel]
    return total.to(torch.float64).mul_(1 / 256)


def analyse(plane: torch.Tensor, band: int) -> torch.Tensor:
    """Return the [N, band, band] coefficients of [N, H, W] planes, times H (so that sums of them stay exact)."""
    height, width = plane.shape[1:]
    rows = (plane @ basis(width, band, plane.device).T).div_(width)
    return basis(height, band, plane.device) @ on_grid(rows, FORWARD_GRID)


def synthesise(coefficients: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Return the [N, height, width] planes of [N, B, B] coefficients (true amplitudes, not times H)."""
    band = coefficients.shape[-1]
    columns = basis(height, band, coefficients.device).T @ on_grid(coefficients, COEFFICIENT_GRID)
    return on_grid(columns, INVERSE_GRID) @ basis(width, band, coefficients.device)


def on_grid(values: torch.Tensor, scale: float) -> torch.Tensor:
    """Return `values` rounded to multiples of 1 / scale, a power of two."""
    return (values * scale).round_().mul_(1 / scale)


@lru_cache(maxsize=64)
def basis(size: int, band: int, device: torch.device) -> torch.Tensor:
    """Return the first `band` rows of the DCT-II basis of `size` points, mean square 1: [band, size] float64."""
    place = (2.0 * np.arange(size) + 1.0) * np.pi / (2.0 * size)
    waves = np.sqrt(2.0) * np.cos(np.arange(band)[:, None] * place[None, :])
    waves[0] = 1.0
    return torch.from_numpy(np.round(waves * BASIS_GRID) / BASIS_GRID).to(device)
