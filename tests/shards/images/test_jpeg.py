"""JPEG by libjpeg-turbo: the pixels and bytes of Pillow, and Pillow itself for whatever is not plain."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import RowError
from pipeline.shards.images.codecs import decode, encode
from pipeline.shards.images.jpeg import Frame, decode_jpeg, encode_jpeg, read_plain_header

MAX = 10_000_000


def scene(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Smooth colours with grain: [H, W, C] uint8."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(float)
    pixels = (smooth + random.normal(0, 9, (height, width, 1))).clip(0, 255).astype(np.uint8)
    return pixels if channels == 3 else pixels[:, :, :1]


def saved(pixels: np.ndarray, **settings: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[:, :, 0]).save(out, "JPEG", **settings)
    return out.getvalue()


def by_pillow(data: bytes) -> np.ndarray:
    array = np.asarray(Image.open(io.BytesIO(data)))
    return array if array.ndim == 3 else array[:, :, None]


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0", "4:1:1"])
@pytest.mark.parametrize("settings", [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"optimize": True}])
@pytest.mark.parametrize("size", [(1, 1), (7, 13), (67, 129)])
def test_pixels_are_those_of_pillow(size: tuple[int, int], settings: dict[str, Any], subsampling: str) -> None:
    for quality in (1, 50, 90, 100):
        data = saved(scene(*size), quality=quality, subsampling=subsampling, **settings)
        assert read_plain_header(data) == Frame(*size, 3)
        found = decode_jpeg(data, 3)
        assert found is not None
        assert not found.flags.writeable
        assert np.array_equal(found, by_pillow(data))


def test_grey_stays_grey() -> None:
    data = saved(scene(33, 50, 1), quality=80)
    assert read_plain_header(data) == Frame(33, 50, 1)
    found = decode_jpeg(data, 1)
    assert found is not None
    assert found.shape == (33, 50, 1)
    assert np.array_equal(found, by_pillow(data))


@pytest.mark.parametrize("quality", [1, 30, 75, 90, 95, 100])
def test_bytes_are_those_of_pillow(quality: int) -> None:
    for size in ((1, 1), (16, 16), (37, 61)):
        pixels = scene(*size, seed=quality)
        assert encode_jpeg(pixels, quality) == saved(pixels, quality=quality, subsampling="4:2:0")
        turned = np.asfortranarray(pixels)  # not contiguous, so left to Pillow
        assert encode(turned, "jpeg", quality) == saved(pixels, quality=quality, subsampling="4:2:0")


@pytest.mark.parametrize("turn", range(1, 9))
def test_turned_images_are_turned_as_before(turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    data = saved(scene(20, 34), quality=90, exif=exif)
    assert read_plain_header(data) is None
    upright = Image.open(io.BytesIO(data))
    from PIL import ImageOps

    assert np.array_equal(decode(data, MAX), np.asarray(ImageOps.exif_transpose(upright)))


def test_what_pillow_must_look_at_is_left_to_it() -> None:
    plain = saved(scene(24, 24), quality=90)
    ink = io.BytesIO()
    Image.fromarray(scene(24, 24)).convert("CMYK").save(ink, "JPEG")
    for data in (
        b"", b"\xff\xd8", plain[:40], plain[:2] + b"\xff" + plain[2:], ink.getvalue(),
        saved(scene(24, 24), icc_profile=b"x" * 200), plain.replace(b"JFIF", b"JFXX"),
    ):  # fmt: skip
        assert read_plain_header(data) is None


@pytest.mark.parametrize("progressive", [False, True])
def test_truncated_files_are_left_to_pillow(progressive: bool) -> None:
    data = saved(scene(64, 64), quality=90, progressive=progressive)
    for end in range(700, len(data) - 2, 97):
        assert decode_jpeg(data[:end], 3) is None, end
        with pytest.raises(RowError, match="truncated"):
            decode(data[:end], MAX)


def test_damaged_files_give_what_pillow_gives() -> None:
    """Bytes changed, taken out and cut off with a proper end: the same pixels, or an error from Pillow's path."""
    random = np.random.default_rng(7)
    for progressive in (False, True):
        data = saved(scene(40, 40), quality=85, progressive=progressive)
        for _ in range(150):
            broken = bytearray(data)
            at = int(random.integers(2, len(data)))
            match int(random.integers(3)):
                case 0:
                    broken[at] = int(random.integers(256))
                case 1:
                    del broken[at : at + int(random.integers(1, 9))]
                case 2:
                    broken[at:] = b"\xff\xd9"
            frame = read_plain_header(bytes(broken))
            if frame is None:
                continue
            found = decode_jpeg(bytes(broken), frame.channels)
            if found is not None:
                assert np.array_equal(found, by_pillow(bytes(broken)))


def test_size_is_checked_before_decoding() -> None:
    data = saved(scene(30, 40))
    with pytest.raises(RowError) as raised:
        decode(data, 1_199)
    assert raised.value.code == "too_large"
    assert decode(data, 1_200).shape == (30, 40, 3)
