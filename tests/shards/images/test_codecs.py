"""Codecs: what each kind of image becomes, what is refused, and that nothing else ever escapes."""

import io
import re
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import RowError
from pipeline.shards.images import formats
from pipeline.shards.images.codecs import decode, encode, extension, fit_square, resize, to_channels
from pipeline.shards.images.formats import sniff
from tests.fixtures.broken_images import MAX_PIXELS, grey16, raw_png, save, source, turned, ugly_rows, with_alpha
from tests.fixtures.shard_files import pictures

UGLY = ugly_rows()
ENCODINGS = ("png", "jpeg", "webp")


@pytest.mark.parametrize(("name", "data", "expected"), UGLY, ids=[name for name, _, _ in UGLY])
def test_every_ugly_image_ends_as_expected(name, data, expected):
    if expected != "ok":
        with pytest.raises(RowError) as caught:
            decode(data, MAX_PIXELS)
        assert caught.value.code == expected
        assert "\n" not in caught.value.message
        assert " at 0x" not in caught.value.message
        return
    pixels = decode(data, MAX_PIXELS)
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] in (1, 3)
    assert pixels.flags.c_contiguous


def test_plain_images_are_what_pillow_reads():
    for kind in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "TGA", "PPM"):
        data = save(source(), kind)
        assert np.array_equal(decode(data, MAX_PIXELS), np.asarray(Image.open(io.BytesIO(data)))), kind


@pytest.mark.parametrize("mode", ["L", "1", "I;16", "LA"])
def test_grey_has_one_channel(mode):
    image = grey16() if mode == "I;16" else source().convert("RGBA").convert("LA").convert(mode)
    assert decode(save(image, "PNG"), MAX_PIXELS).shape == (24, 32, 1)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_divided_by_257_and_rounded(kind):
    values = np.array([[0, 128, 129, 257, 385, 386, 65_406, 65_407, 65_535]], np.uint16)
    pixels = decode(save(Image.fromarray(values), kind), MAX_PIXELS)
    assert pixels[0, :, 0].tolist() == [0, 0, 1, 1, 1, 2, 254, 255, 255]
    assert np.array_equal(pixels[..., 0], np.rint(values / 257).astype(np.uint8))


def test_16_bit_colour_keeps_its_high_bytes():
    values = np.array([0, 255, 256, 511, 512, 65_535], ">u2")
    assert decode(raw_png(2, 1, 16, 2, b"\0" + values.tobytes()), MAX_PIXELS).ravel().tolist() == [0, 0, 1, 1, 2, 255]


def test_alpha_is_laid_over_white():
    pixels = decode(save(with_alpha(), "PNG"), MAX_PIXELS).astype(float)
    alpha = np.asarray(with_alpha())[..., 3:] / 255
    assert np.abs(pixels - (np.asarray(source()) * alpha + 255 * (1 - alpha))).max() <= 0.51
    assert (decode(save(with_alpha().convert("LA"), "PNG"), MAX_PIXELS)[:, 0] == 255).all()


def test_a_transparent_colour_becomes_white():
    image = Image.new("RGB", (4, 4), (10, 20, 30))
    assert (decode(save(image, "PNG", transparency=(10, 20, 30)), MAX_PIXELS) == 255).all()
    grey = decode(save(Image.new("L", (4, 4), 10), "PNG", transparency=10), MAX_PIXELS)
    assert grey.shape == (4, 4, 1)
    assert (grey == 255).all()


def test_opaque_alpha_changes_nothing():
    assert np.array_equal(decode(save(source().convert("RGBA"), "PNG"), MAX_PIXELS), np.asarray(source()))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind, orientation):
    settings = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind == "JPEG" else {}
    stored = np.asarray(source()).astype(int)
    upright = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.swapaxes(0, 1),
        6: np.rot90(stored, -1),
        7: stored[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(stored, 1),
    }[orientation]
    pixels = decode(turned(orientation, kind, **settings), MAX_PIXELS)
    assert pixels.shape == upright.shape
    assert np.abs(pixels - upright).mean() < (3 if kind == "JPEG" else 0.01)


def test_an_animation_gives_its_first_frame():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    for kind in ("GIF", "WEBP", "PNG", "TIFF", "MPO"):
        pixels = decode(save(frames[0], kind, save_all=True, append_images=frames[1:]), MAX_PIXELS)
        assert (np.abs(pixels.astype(int) - [255, 0, 0]) <= 3).all(), kind


def test_the_bound_on_pixels_is_exact_and_named():
    data = save(source(10, 20), "PNG")
    assert decode(data, 200).shape == (10, 20, 3)
    with pytest.raises(RowError, match=re.escape("20 x 10 pixels; input.max_pixels is 199")):
        decode(data, 199)


def test_no_warning_escapes_whatever_the_filters_and_threads():
    rows = [data for _, data, _ in UGLY] * 3

    def outcome(data):
        try:
            return decode(data, 10**9).shape
        except RowError as error:
            return error.code

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        alone = [outcome(data) for data in rows]
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(outcome, rows)) == alone


def test_broken_bytes_never_raise_anything_but_a_row_error():
    rng = np.random.default_rng(5)
    seeds = [data for name, data, expected in UGLY if expected == "ok" and "strip" not in name]
    for _ in range(1500):
        data = bytearray(seeds[rng.integers(len(seeds))])
        if rng.random() < 0.3:
            del data[rng.integers(len(data)) :]
        else:
            for at in rng.integers(0, min(len(data), int(rng.choice([48, 400, 10**6]))), rng.integers(1, 9)):
                data[at] ^= 1 << int(rng.integers(8))
        try:
            pixels = decode(bytes(data), 10**6)
        except RowError:
            continue
        assert pixels.dtype == np.uint8
        assert pixels.size


def test_messages_do_not_vary():
    messages = set()
    for _ in range(2):
        with pytest.raises(RowError) as caught:
            decode(save(source(), "TIFF")[:300], MAX_PIXELS)
        messages.add(caught.value.message)
    assert len(messages) == 1


@pytest.mark.parametrize("channels", [1, 3])
def test_png_is_lossless_and_the_rest_is_close(channels):
    pixels = pictures(1, 40, 56, channels)[0]
    assert np.array_equal(decode(encode(pixels, "png"), MAX_PIXELS), pixels)
    for encoding in ("jpeg", "webp"):
        back = decode(encode(pixels, encoding, 95), MAX_PIXELS)
        assert np.abs(back.astype(int) - pixels).mean() < 8
        assert back.shape[2] == (3 if encoding == "webp" else channels)


def test_encoding_is_deterministic_and_quality_counts():
    pixels = pictures(1, 64, 64)[0]
    for encoding in ENCODINGS:
        assert encode(pixels, encoding, 80) == encode(pixels.copy(), encoding, 80)
    for encoding in ("jpeg", "webp"):
        assert len(encode(pixels, encoding, 30)) < len(encode(pixels, encoding, 95))


def test_an_image_too_wide_for_its_format_is_a_row_error():
    wide = np.zeros((1, 70_000, 3), np.uint8)
    for encoding in ("jpeg", "webp"):
        with pytest.raises(RowError, match=f"70000 x 1 pixels cannot be stored as {encoding}"):
            encode(wide, encoding)


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 2), (4, 4, 4), (0, 4, 3)])
def test_encode_takes_only_pixels(shape):
    with pytest.raises(ValueError, match=r"uint8 \[H, W, 1\]"):
        encode(np.zeros(shape, np.uint8), "png")
    with pytest.raises(ValueError, match="float32"):
        encode(np.zeros((4, 4, 3), np.float32), "png")  # type: ignore[arg-type]


def test_names_of_encodings():
    assert [extension(encoding) for encoding in ENCODINGS] == ["png", "jpg", "webp"]
    assert [sniff(encode(pictures(1)[0], encoding)) for encoding in ENCODINGS] == ["PNG", "JPEG", "WEBP"]
    assert {name for name, _ in formats._MAGIC} | {"AVIF", "TGA"} == set(formats.FORMATS)


@pytest.mark.parametrize("channels", [1, 3])
def test_resize_is_pillows_antialiased_bicubic(channels):
    pixels = pictures(1, 40, 56, channels)[0]
    image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels).resize((14, 10), Image.Resampling.BICUBIC)
    small = resize(pixels, 10, 14)
    assert small.shape == (10, 14, channels)
    assert np.array_equal(small, np.asarray(image).reshape(small.shape))
    assert resize(pixels, 40, 56) is pixels


def test_fit_square_keeps_the_centre():
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20] = 200
    assert (fit_square(pixels, 10)[:, 1:-1] == 200).all()
    assert np.abs(fit_square(pixels, 5).astype(int) - 200).max() <= 25
    assert np.array_equal(fit_square(pixels.swapaxes(0, 1), 10), fit_square(pixels, 10).swapaxes(0, 1))
    assert fit_square(pixels[:, :10], 10).shape == (10, 10, 3)


def test_fit_square_equals_resizing_then_cropping():
    pixels = pictures(1, 64, 96)[0]
    cropped = resize(pixels, 32, 48)[:, 8:40]
    assert np.abs(fit_square(pixels, 32).astype(int) - cropped).max() <= 1


def test_fit_square_of_a_strip_is_cheap():
    assert fit_square(np.zeros((1, 5000, 1), np.uint8), 512).shape == (512, 512, 1)


def test_channels():
    pixels = pictures(1)[0]
    grey = to_channels(pixels, "grey")
    luma = pixels @ np.array([0.299, 0.587, 0.114])
    assert grey.shape == (24, 32, 1)
    assert np.abs(grey[..., 0] - luma).max() <= 1
    assert np.array_equal(to_channels(grey, "rgb"), np.repeat(grey, 3, axis=2))
    assert to_channels(pixels, "source") is pixels
    assert to_channels(pixels, "rgb") is pixels
    assert to_channels(grey, "grey") is grey
