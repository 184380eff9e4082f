"""Decoding and encoding with plain Pillow, for the contestants that do not use this package."""

import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from jobs.bench.contestants.task import JPEG_QUALITY, Task

Pixels = npt.NDArray[np.uint8]


def decode(data: bytes, size_px: int) -> Pixels:
    """Return [size, size, 3] uint8 RGB; the short side of another size is resized (bicubic), the long side cropped."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    if image.size != (size_px, size_px):
        side = min(image.size)
        left, top = (image.width - side) / 2, (image.height - side) / 2
        box = (left, top, left + side, top + side)
        image = image.resize((size_px, size_px), Image.Resampling.BICUBIC, box=box)
    return np.asarray(image)


def encode(pixels: Pixels, encoding: str = "jpeg") -> bytes:
    """Return RGB pixels as JPEG, or as PNG at Pillow's default level."""
    out = io.BytesIO()
    settings = {"quality": JPEG_QUALITY} if encoding == "jpeg" else {}
    Image.fromarray(pixels).save(out, encoding, **settings)
    return out.getvalue()


class PlainOperator:
    """The operator of a task: [N, S, S, 3] uint8 -> the same, one call a batch. Loads its model when it is made.

    anew: a style is encoded again in every call.
    """

    def __init__(self, task: Task, threads: int = 1, anew: bool = False) -> None:
        self._stylist = None
        if task.models is not None:
            from jobs.bench.contestants.plain_adain import AdaINStyliser

            self._stylist = AdaINStyliser(task.models, threads, anew)

    def __call__(self, images: Pixels | Sequence[Pixels]) -> Pixels:
        batch = np.asarray(images)
        return np.ascontiguousarray(batch[:, :, ::-1]) if self._stylist is None else self._stylist(batch)
