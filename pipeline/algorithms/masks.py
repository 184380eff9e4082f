"""Object masks [H, W]: a centred box or ellipse, or read from pixels and lists of a mask column. Imports no torch."""

import hashlib
import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pipeline.errors import RowError

Mask = npt.NDArray[np.bool_]
Shape = Literal["box", "ellipse"]
WIDEST = {"box": 1.0, "ellipse": math.pi / 4}
"""The largest share of an image that a shape covers without being cut."""


def centred_mask(size: tuple[int, int], share: float, shape: Shape) -> Mask:
    """A box or an ellipse [H, W] in the middle of an image of `size` (H, W): its proportions, `share` of its area."""
    height, width = size
    side = math.sqrt(share / WIDEST[shape])
    down = np.abs(2 * (np.arange(height) + 0.5) / height - 1)[:, None]
    across = np.abs(2 * (np.arange(width) + 0.5) / width - 1)[None]
    if shape == "box":
        return (down <= side) & (across <= side)
    inside: Mask = down**2 + across**2 <= side**2
    return inside


def mask_from_pixels(pixels: npt.NDArray[np.uint8]) -> Mask:
    """The object [H, W] of a decoded mask [H, W, C] uint8: where a channel is above 127; of 0 and 1 alone, where 1."""
    brightest = pixels.max(axis=2)
    inside: Mask = brightest > (127 if brightest.max(initial=0) > 1 else 0)
    return inside


def mask_from_lists(rows: Any) -> Mask | None:
    """The object [H, W] of nested lists of numbers or truths: where they are not 0; None for anything else."""
    try:
        values = np.asarray(rows, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return values != 0 if values.ndim == 2 else None


def check_size(mask: Mask, size: tuple[int, int]) -> None:
    """Raise RowError `mask_size` where a mask is not as large as its image: nothing is stretched to fit."""
    if mask.shape != size:
        raise RowError(
            "mask_size",
            f"the mask is {mask.shape[1]} x {mask.shape[0]} px, the image {size[1]} x {size[0]} px as it arrives here; "
            "they must be the same (a recipe with output.size changes the image alone)",
        )


def mask_sha256(mask: Mask) -> str:
    """Hex sha256 of a mask's size and pixels."""
    return hashlib.sha256(f"{mask.shape}".encode() + np.packbits(mask).tobytes()).hexdigest()
