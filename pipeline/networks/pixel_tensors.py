"""Conversions between uint8 pixels and image tensors: ranges, channels, sizes, and checks for unusable outputs."""

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
BLACK_LEVEL = 1  # an image without a brighter pixel shows nothing; half precision that overflowed looks like this
NON_FINITE, BLACK = "non_finite", "black"
MAX_ENLARGED = 4
"""The most that a small image is enlarged: the networks' filters are made for details of several pixels."""


def from_pixels(pixels: Tensor) -> Tensor:
    """[N, H, W, C] uint8 -> [N, C, H, W] float32 in [-1, 1]."""
    return pixels.permute(0, 3, 1, 2).float().div(127.5).sub(1)


def to_pixels(images: Tensor) -> Tensor:
    """[N, C, H, W] in [-1, 1] (clamped; what is not finite becomes black) -> [N, H, W, C] uint8, contiguous, CPU."""
    levels = images.nan_to_num(-1.0, -1.0, -1.0).clamp(-1, 1).add(1).mul(127.5).round()
    return levels.to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu()


def unit_tensor_pixels(images: Tensor, fine: Tensor | None = None) -> tuple[npt.NDArray[np.uint8], dict[int, str]]:
    """[N, C, H, W] in [0, 1] (clamped) -> [N, H, W, C] uint8, contiguous; and `non_finite` by index.

    Images that hold a number that is not finite, or for which `fine` [N] is False, come out black.
    """
    finite = images.isfinite().all(dim=(1, 2, 3))
    kept = (finite if fine is None else finite & fine).tolist()
    levels = images.nan_to_num(0.0).clamp(0, 1).mul(255).round().to(torch.uint8)
    pixels: npt.NDArray[np.uint8] = levels.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    failed = {index: NON_FINITE for index, keep in enumerate(kept) if not keep}
    for index in failed:
        pixels[index] = 0
    return pixels, failed


def flaws(images: Tensor, pixels: Tensor) -> dict[int, str]:
    """Why images [N, C, H, W] and their pixels [N, H, W, C] must not be kept, by index: `non_finite` or `black`."""
    finite = images.isfinite().all(dim=(1, 2, 3)).tolist()
    brightest = pixels.amax(dim=(1, 2, 3)).tolist()
    found = {}
    for index, (fine, peak) in enumerate(zip(finite, brightest, strict=True)):
        if not fine:
            found[index] = NON_FINITE
        elif peak <= BLACK_LEVEL:
            found[index] = BLACK
    return found


def with_channels(images: Tensor, channels: int) -> Tensor:
    """[N, 1 or 3, H, W] float with 1 (luma) or 3 (equal) channels."""
    if images.shape[1] == channels:
        return images
    if channels == 3:
        return images.expand(-1, 3, -1, -1)
    weights = torch.tensor(LUMA, device=images.device).view(1, 3, 1, 1)
    return (images * weights).sum(dim=1, keepdim=True)


def with_size(images: Tensor, size_px: int | tuple[int, int]) -> Tensor:
    """[N, C, H, W] float stretched to a square, or to (height, width): bilinear, low-passed on the way down."""
    size = (size_px, size_px) if isinstance(size_px, int) else size_px
    return images if images.shape[-2:] == size else F.interpolate(images, size, mode="bilinear", antialias=True)


def rgb_unit_tensor(pixels: npt.NDArray[np.uint8]) -> Tensor:
    """[N, H, W, 1 or 3] uint8 -> [N, 3, H, W] float32 in [0, 1], a copy; grey is spread over RGB."""
    rgb = np.broadcast_to(pixels, (*pixels.shape[:3], 3))
    return torch.from_numpy(np.array(rgb, order="C")).permute(0, 3, 1, 2).to(torch.float32).div_(255)


def with_short_side(images: Tensor, size_px: int) -> Tensor:
    """[N, C, H, W] in [0, 1] with its short side at `size_px`, proportions kept: bilinear, low-passed on the way down.

    Both sides are rounded to whole pixels, 1 at least.
    """
    height, width = images.shape[-2:]
    scale = size_px / min(height, width)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return F.interpolate(images, size, mode="bilinear", antialias=True).clamp(0, 1)


def enlargement(size: tuple[int, int], min_px: int) -> int:
    """Return the factor, 1 to 4, by which `size` (h, w) is enlarged so that its short side gets `min_px`."""
    return min(MAX_ENLARGED, -(-min_px // min(size)))


def enlarged(images: Tensor, min_px: int) -> Tensor:
    """[N, C, H, W] in [0, 1], 1 to 4 times as large, so that the short side has `min_px` if that suffices."""
    factor = enlargement((images.shape[-2], images.shape[-1]), min_px)
    return F.interpolate(images, scale_factor=factor, mode="bicubic").clamp(0, 1) if factor > 1 else images


def restored_size(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Undo `enlarged`: [N, C, H, W] averaged block by block down to its first size (h, w)."""
    return images if images.shape[-2:] == size else F.interpolate(images, size, mode="area")
