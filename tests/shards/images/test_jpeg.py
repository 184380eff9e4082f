"""JPEG by libjpeg-turbo: the pixels and bytes of Pillow, and Pillow itself for whatever is not plain."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import RowError
from pipeline.shards.images.codecs import decode, decode_square_reduced, encode, fit_square
from pipeline.shards.images.jpeg import (
    Frame,
    decode_jpeg,
    decode_reduced,
    encode_jpeg,
    read_plain_header,
    reduction,
)

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


@pytest.mark.parametrize(
    ("size", "side", "factor"),
    [
        ((4_000, 6_000), 256, 4), ((6_000, 4_096), 256, 8), ((3_000, 4_000), 256, 4), ((1_024, 1_024), 256, 2),
        ((1_023, 9_000), 256, 1), ((256, 256), 256, 1), ((16, 16), 1, 8),
    ],
)  # fmt: skip
def test_the_reduced_image_is_twice_the_target_or_more(size: tuple[int, int], side: int, factor: int) -> None:
    assert reduction(Frame(*size, 3), side) == factor
    assert factor == 1 or min(size) // factor >= 2 * side


@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("settings", [{}, {"progressive": True}, {"subsampling": "4:4:4"}, {"subsampling": "4:2:2"}])
def test_reduced_pixels_are_those_of_pillows_draft(settings: dict[str, Any], factor: int) -> None:
    for channels in (1, 3):
        data = saved(scene(130, 187, channels), quality=90, **settings)
        found = decode_reduced(data, Frame(130, 187, channels), factor)
        image = Image.open(io.BytesIO(data))
        image.draft(None, (187 // factor, 130 // factor))
        assert found is not None
        assert found.shape == (-(-130 // factor), -(-187 // factor), channels)
        assert np.array_equal(found, np.asarray(image).reshape(found.shape))


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((one.astype(float) - other) ** 2)))


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("size", [(160, 240), (251, 163)])
def test_a_reduced_square_is_that_of_the_whole_image(size: tuple[int, int], turn: int) -> None:
    """Upright, of the same part of the image: 40 dB, where one pixel aside would be 30."""
    smooth = scene(6, 6)
    pixels = np.asarray(Image.fromarray(smooth).resize(size[::-1], Image.Resampling.BICUBIC))
    exif = Image.Exif()
    exif[0x0112] = turn
    data = saved(pixels, quality=95, **({"exif": exif} if turn > 1 else {}))
    found = decode_square_reduced(data, MAX, 20)
    assert found is not None
    square, shape = found
    whole = decode(data, MAX)
    assert shape == whole.shape
    assert square.shape == (20, 20, 3)
    assert psnr(square, fit_square(whole, 20)) > 40 > 30 > psnr(square, np.roll(fit_square(whole, 20), 1, axis=1))


def test_a_reduced_photograph_of_a_phone_is_its_first_image() -> None:
    first, second = (Image.fromarray(scene(96, 96, seed=seed)) for seed in range(2))
    several, plain = io.BytesIO(), saved(np.asarray(first), quality=75)
    first.save(several, "MPO", save_all=True, append_images=[second])
    one, other = (decode_square_reduced(data, MAX, 12) for data in (several.getvalue(), plain))
    assert one is not None and other is not None
    assert np.array_equal(one[0], other[0])


def test_profiles_are_followed_at_reduced_scale() -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()  # of no RGB image: it is ignored
    plain, named = (saved(scene(96, 96), quality=90, **extra) for extra in ({}, {"icc_profile": profile}))
    assert np.array_equal(fit_square(decode(plain, MAX), 12), fit_square(decode(named, MAX), 12))
    one, other = (decode_square_reduced(data, MAX, 12) for data in (plain, named))
    assert one is not None and other is not None
    assert np.array_equal(one[0], other[0])


def test_what_cannot_be_reduced_is_left_to_the_full_decode() -> None:
    ink, flat = io.BytesIO(), io.BytesIO()
    Image.fromarray(scene(96, 96)).convert("CMYK").save(ink, "JPEG")
    Image.fromarray(scene(96, 96)).save(flat, "PNG")
    whole = saved(scene(96, 96))
    for data, most in ((ink.getvalue(), MAX), (flat.getvalue(), MAX), (b"", MAX), (whole[:300], MAX), (whole, 9_215)):
        assert decode_square_reduced(data, most, 12) is None
    assert decode_square_reduced(whole, 9_216, 24) is not None
    assert decode_square_reduced(whole, 9_216, 25) is None


@pytest.mark.parametrize("settings", [{}, {"progressive": True}, {"subsampling": "4:4:4"}, {"restart_marker_rows": 1}])
@pytest.mark.parametrize("channels", [1, 3])
def test_truncated_and_damaged_files_are_refused_as_by_the_full_decode(settings: dict[str, Any], channels: int) -> None:
    """Wherever it is cut, with a proper end or without, or a byte is changed: reduced only what `decode` accepts."""
    data = saved(scene(72, 88, channels), quality=85, **settings)
    random = np.random.default_rng(3)
    start = data.index(b"\xff\xda")
    for end in (*range(start, len(data), max(1, len(data) // 60)), len(data) - 3, len(data) - 2):
        changed = bytearray(data)
        changed[end - 1] = int(random.integers(256))
        for broken in (data[:end], data[:end].rstrip(b"\xff") + b"\xff\xd9", bytes(changed)):
            found = decode_square_reduced(broken, MAX, 4)
            if found is not None:
                assert decode(broken, MAX).shape == found[1]
