"""Images of every format that is read, broken at random: the same seed and index give the same bytes."""

import functools
import random
import struct
from typing import Any

import numpy as np
from PIL import Image, features

from tests.fixtures.broken_images import MAX_PIXELS, save, source, ugly_rows, with_alpha

__all__ = ["MAX_PIXELS", "broken_image"]


def broken_image(seed: int, index: int) -> bytes:
    """Return the bytes of case `index` of a seed: a valid image with one to four things done to it, or two spliced."""
    rng = random.Random(f"image {seed} {index}")
    data = bytearray(rng.choice(_whole()))
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        data = rng.choice((_flip, _flip, _set, _cut, _splice, _swap, _number, _repeat, _zero))(data, rng)
    return bytes(data)


@functools.cache
def _whole() -> tuple[bytes, ...]:
    image, noise = source(), Image.fromarray(np.random.default_rng(3).integers(0, 256, (40, 56, 3), np.uint8))
    found = [data for name, data, expected in ugly_rows() if expected == "ok" and len(data) < 20_000]
    settings: list[tuple[str, dict[str, Any]]] = [
        ("JPEG", {"progressive": True, "quality": 30}), ("JPEG", {"restart_marker_blocks": 2}),
        ("JPEG", {"subsampling": 0, "comment": b"x" * 300}), ("PNG", {"compress_level": 0}),
        ("WEBP", {"lossless": True}), ("WEBP", {"quality": 20}), ("GIF", {"interlace": 1}),
        ("TIFF", {"compression": "tiff_lzw"}), ("TIFF", {"compression": "tiff_deflate"}),
        ("TIFF", {"compression": "jpeg"}), ("TIFF", {"compression": "packbits"}), ("TGA", {"compression": "tga_rle"}),
        ("ICO", {"sizes": [(16, 16), (32, 32)]}), ("BMP", {}), ("PPM", {}),
    ]  # fmt: skip
    found += [save(noise, kind, **more) for kind, more in settings]
    found += [save(image.quantize(200), kind) for kind in ("BMP", "GIF", "TIFF", "TGA", "PNG")]
    found += [save(image.convert("1"), "TIFF", compression=kind) for kind in ("group3", "group4", "tiff_ccitt")]
    found += [save(image, "PNG", icc_profile=bytes(range(256))), save(with_alpha(), "TIFF"), save(with_alpha(), "ICO")]
    if features.check("avif"):
        frames = [image, image.transpose(Image.Transpose.ROTATE_180)]
        found += [save(image, "AVIF"), save(with_alpha(), "AVIF"), save(noise, "AVIF", quality=20)]
        found.append(save(image, "AVIF", save_all=True, append_images=frames))
    return tuple(found)


def _place(data: bytearray, rng: random.Random) -> int:
    """Return a place; half of them within the first 64 bytes, where the headers are."""
    return rng.randrange(min(64, len(data)) if rng.random() < 0.5 else len(data)) if data else 0


def _flip(data: bytearray, rng: random.Random) -> bytearray:
    for _ in range(rng.choice((1, 1, 3, 10))):
        if data:
            data[_place(data, rng)] ^= 1 << rng.randrange(8)
    return data


def _set(data: bytearray, rng: random.Random) -> bytearray:
    if data:
        data[_place(data, rng)] = rng.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF, rng.randrange(256)))
    return data


def _cut(data: bytearray, rng: random.Random) -> bytearray:
    return data[: _place(data, rng)] if rng.random() < 0.5 else data[: max(0, len(data) - rng.randrange(1, 40))]


def _splice(data: bytearray, rng: random.Random) -> bytearray:
    """Give the head of one file to the rest of another."""
    other = bytearray(rng.choice(_whole()))
    return data[: rng.choice((4, 8, 16, 24, 33, 64, 200))] + other[rng.randrange(len(other)) :]


def _swap(data: bytearray, rng: random.Random) -> bytearray:
    """Exchange two stretches of a file, of a PNG mostly two of its chunks."""
    if len(data) < 16:
        return data
    cuts = sorted(rng.sample(range(8, len(data)), 4)) if len(data) > 12 else [0, 0, 0, 0]
    if data.startswith(b"\x89PNG") and rng.random() < 0.8:
        chunks, at = [], 8
        while at + 12 <= len(data):
            end = at + 12 + int.from_bytes(data[at : at + 4], "big")
            chunks.append(data[at:end])
            at = end
        rng.shuffle(chunks)
        return data[:8] + b"".join(chunks)
    a, b, c, d = cuts
    return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]


def _number(data: bytearray, rng: random.Random) -> bytearray:
    """Write a size or an offset that is wrong: small, huge or negative, in either byte order."""
    value = rng.choice((0, 1, 2, 255, 256, 40_000, 65_535, 2**31 - 1, 2**31, 2**32 - 1, len(data), len(data) - 1))
    form = rng.choice(("<I", ">I", "<H", ">H"))
    put = struct.pack(form, value if form[1] == "I" else value & 0xFFFF)
    at = _place(data, rng)
    data[at : at + len(put)] = put
    return data


def _repeat(data: bytearray, rng: random.Random) -> bytearray:
    at = _place(data, rng)
    return data[:at] + data[at : at + rng.choice((1, 4, 12, 100))] * rng.choice((1, 2, 50)) + data[at:]


def _zero(data: bytearray, rng: random.Random) -> bytearray:
    at = _place(data, rng)
    many = min(rng.choice((1, 4, 64, 1000)), len(data) - at)
    data[at : at + many] = bytes(many)
    return data
