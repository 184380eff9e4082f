"""Between pixels and what image networks take and give: ranges, channels, sizes, and outputs that are no pictures."""

import torch
import torch.nn.functional as F
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
BLACK_LEVEL = 1  # an image without a brighter pixel shows nothing; half precision that overflowed looks like this
NON_FINITE, BLACK = "non_finite", "black"


def from_pixels(pixels: Tensor) -> Tensor:
    """[N, H, W, C] uint8 -> [N, C, H, W] float32 in [-1, 1]."""
    return pixels.permute(0, 3, 1, 2).float().div(127.5).sub(1)


def to_pixels(images: Tensor) -> Tensor:
    """[N, C, H, W] in [-1, 1] (clamped; what is not finite becomes black) -> [N, H, W, C] uint8, contiguous, CPU."""
    levels = images.nan_to_num(-1.0, -1.0, -1.0).clamp(-1, 1).add(1).mul(127.5).round()
    return levels.to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu()


def flaws(images: Tensor, pixels: Tensor) -> dict[int, str]:
    """Why images [N, C, H, W] and their pixels [N, H, W, C] must not be kept, by index: `non_finite` or `black`."""
    finite = images.isfinite().all(dim=(1, 2, 3)).tolist()
    brightest = pixels.amax(dim=(1, 2, 3)).tolist()
    found = {}
    for index, (fine, most) in enumerate(zip(finite, brightest, strict=True)):
        if not fine:
            found[index] = NON_FINITE
        elif most <= BLACK_LEVEL:
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


def with_size(images: Tensor, size_px: int) -> Tensor:
    """[N, C, H, W] float stretched to [N, C, size_px, size_px]: bilinear, low-passed on the way down."""
    if images.shape[-2:] == (size_px, size_px):
        return images
    return F.interpolate(images, (size_px, size_px), mode="bilinear", antialias=True)
