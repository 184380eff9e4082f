"""Edges of images, as a ControlNet is shown them: Sobel gradients over a threshold, or Canny's thin lines.

Canny 1986, "A Computational Approach to Edge Detection", IEEE TPAMI 8(6), sections VI-VIII: smoothed gradient,
non-maximum suppression, two thresholds. Each image is looked at alone: its edges are the same in any batch.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.networks.pixel_tensors import with_channels

SMOOTHING = (0.0545, 0.2442, 0.4026, 0.2442, 0.0545)  # Gaussian of sigma 1, five taps
METHODS = ("canny", "sobel")
TIE = 1e-4  # lengths nearer than this are one: sums in another order leave the same line


def edges_of(images: Tensor, method: str, thresholds: tuple[float, float]) -> Tensor:
    """Edges [N, 1, H, W], 0 or 1, of images [N, 1 or 3, H, W] in [-1, 1].

    Args:
        thresholds: lengths of the Sobel gradient of luma in [0, 1] (a step from black to white has about 4). `sobel`
            takes what is above the second; `canny` also the thin lines above the first that touch one above the second.

    Raises:
        ValueError: the method is not known.
    """
    luma = with_channels(images, 1).add(1).div(2)
    if method == "sobel":
        return (_length(*gradients(luma)) > thresholds[1]).to(images.dtype)
    if method != "canny":
        raise ValueError(f"edges {method!r} are not known; known: {', '.join(METHODS)}")
    across, down = gradients(_smoothed(luma))
    ridges = _ridges(across, down)
    return _connected(ridges > thresholds[1], ridges > thresholds[0]).to(images.dtype)


def gradients(luma: Tensor) -> tuple[Tensor, Tensor]:
    """The Sobel derivatives of [N, 1, H, W] across and down; borders are continued."""
    kernel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], device=luma.device)
    both = torch.stack([kernel, kernel.T])[:, None]
    found = F.conv2d(F.pad(luma, (1, 1, 1, 1), mode="replicate"), both)
    return found[:, :1], found[:, 1:]


def _smoothed(luma: Tensor) -> Tensor:
    taps = torch.tensor(SMOOTHING, device=luma.device)
    kernel = (taps[:, None] * taps[None])[None, None] / taps.sum() ** 2
    return F.conv2d(F.pad(luma, (2, 2, 2, 2), mode="replicate"), kernel)


def _length(across: Tensor, down: Tensor) -> Tensor:
    return (across.square() + down.square()).sqrt()


def _ridges(across: Tensor, down: Tensor) -> Tensor:
    """The gradient's length where no neighbour along its direction (of four) is longer, else 0."""
    length = _length(across, down)
    height, width = length.shape[-2:]
    padded = F.pad(length, (1, 1, 1, 1))
    angle = torch.atan2(down, across) * (4 / torch.pi)
    sector = angle.round().long() % 4  # 0: across, 1: down to the right, 2: down, 3: down to the left
    kept = torch.zeros_like(length)
    for index, (row, column) in enumerate(((0, 1), (1, 1), (1, 0), (1, -1))):
        ahead = padded[..., 1 + row : 1 + row + height, 1 + column : 1 + column + width]
        behind = padded[..., 1 - row : 1 - row + height, 1 - column : 1 - column + width]
        ridge = (length >= ahead - TIE) & (length > behind + TIE)
        kept = torch.where((sector == index) & ridge, length, kept)
    return kept


def _connected(strong: Tensor, weak: Tensor) -> Tensor:
    """Return the part of `weak` that is 8-connected to `strong`."""
    while True:
        grown = (F.max_pool2d(strong.float(), 3, stride=1, padding=1) > 0) & weak
        if torch.equal(grown, strong):
            return strong
        strong = grown
