"""PNG by NumPy and libdeflate: what Pillow reads back, and no larger than what Pillow writes."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from pipeline.shards.images.png import encode_png


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (28, 28), (400, 1_100)])  # the last in several blocks
def test_pixels_come_back(size: tuple[int, int], channels: int) -> None:
    height, width = size
    ramp = np.add.outer(np.arange(height), np.arange(width))[:, :, None] * np.arange(1, channels + 1)
    grain = np.random.default_rng(height).integers(0, 256, (height, width, channels))
    for pixels in (ramp.astype(np.uint8), grain.astype(np.uint8), np.full((height, width, channels), 255, np.uint8)):
        opened = Image.open(io.BytesIO(encode_png(pixels)))
        assert opened.mode == {1: "L", 3: "RGB"}[channels]
        assert np.array_equal(np.asarray(opened).reshape(pixels.shape), pixels)


def test_pixels_that_are_not_contiguous_come_back() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 31, 3), dtype=np.uint8)[:, ::-1]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encode_png(pixels)))), pixels)


def test_chunks_are_in_order_and_their_checks_are_right() -> None:
    data = encode_png(np.zeros((5, 7, 3), np.uint8))
    at, kinds = 8, []
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        body = data[at + 4 : at + 8 + size]
        assert struct.unpack_from(">I", data, at + 8 + size) == (zlib.crc32(body),)
        kinds.append(body[:4])
        at += 12 + size
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert kinds == [b"IHDR", b"IDAT", b"IEND"]


def test_each_row_has_the_filter_that_leaves_least() -> None:
    grain = np.random.default_rng(5).integers(0, 256, 64, dtype=np.uint8)
    ramp = np.arange(64, dtype=np.uint8)
    rows = np.stack([np.zeros(64, np.uint8), 3 * ramp + 20, grain, grain + 1, grain + 2])
    data = encode_png(rows[:, :, None])
    (size,) = struct.unpack_from(">I", data, 33)
    inflated = np.frombuffer(zlib.decompress(data[41 : 41 + size]), np.uint8).reshape(5, 65)
    assert inflated[[0, 1, 3, 4], 0].tolist() == [0, 1, 2, 2]  # none, Sub, Up, Up


def test_a_photograph_is_no_larger_than_pillow_makes_it() -> None:
    coarse = Image.fromarray(np.random.default_rng(3).integers(0, 256, (8, 8, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((128, 128), Image.Resampling.BICUBIC)).astype(float)
    pixels = (smooth + np.random.default_rng(4).normal(0, 5, (128, 128, 1))).clip(0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", compress_level=1)
    assert len(encode_png(pixels)) < 1.02 * len(out.getvalue())
