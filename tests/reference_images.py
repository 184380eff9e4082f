"""Reference images as an operator is supplied with them: small files, made here."""

import hashlib
import io

import numpy as np
from PIL import Image

from pipeline.contracts import Pixels, ReferenceImage


def encoded(pixels: Pixels, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(buffer, kind)
    return buffer.getvalue()


def reference(pixels: Pixels, name: str) -> ReferenceImage:
    data = encoded(pixels)
    return ReferenceImage(f"/pictures/{name}", hashlib.sha256(data).hexdigest(), data)


def style(index: int, size: tuple[int, int] = (40, 24), channels: int = 3) -> ReferenceImage:
    """A picture of smooth blobs, width x height, another one for every index."""
    coarse = np.random.default_rng(index).integers(0, 256, (4, 4, channels), dtype=np.uint8)
    image = Image.fromarray(coarse[..., 0] if channels == 1 else coarse).resize(size)
    return reference(np.asarray(image).reshape(size[1], size[0], channels), f"style-{index}.png")


def no_image(name: str = "notes.txt") -> ReferenceImage:
    return ReferenceImage(f"/pictures/{name}", hashlib.sha256(b"hello").hexdigest(), b"hello")
