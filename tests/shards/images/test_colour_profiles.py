"""Embedded colour profiles: converted to sRGB where they say anything else, and left out where they make no sense."""

import numpy as np
import pytest
from PIL import Image, ImageCms

from pipeline.shards.images.codecs import decode
from tests.fixtures.broken_images import save, source
from tests.fixtures.icc_profiles import SRGB_D50, cmyk_profile, grey_profile, rgb_profile, shown_as
from tests.fixtures.shard_files import pictures

MAX_PIXELS = 10**8
COLOURS = np.array([[200, 120, 60], [30, 60, 90], [128, 128, 128], [250, 240, 230], [90, 140, 100]], np.uint8)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def decoded(image: Image.Image, profile: bytes | None, kind: str = "PNG", **settings):
    return decode(save(image, kind, icc_profile=profile, **settings), MAX_PIXELS)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_wide_colours_become_those_of_srgb(kind):
    image = Image.fromarray(np.repeat(COLOURS[None], 4, axis=0))
    pixels = decoded(image, rgb_profile(), kind, **({"lossless": True} if kind == "WEBP" else {}))
    assert np.abs(pixels[0] - shown_as(COLOURS)).max() <= 1
    assert np.abs(pixels[0].astype(int) - COLOURS).max() > 10


def test_jpeg_and_avif_carry_profiles_too():
    image = Image.new("RGB", (32, 32), (200, 120, 60))
    for kind in ("JPEG", "AVIF"):
        assert np.abs(decoded(image, rgb_profile(), kind, quality=95)[8, 8] - shown_as([200, 120, 60])).max() <= 4


def test_palettes_and_alpha_are_converted_before_they_are_laid_over_white():
    colour = shown_as([200, 120, 60])
    palette = Image.new("RGB", (8, 8), (200, 120, 60)).convert("P", palette=Image.Palette.ADAPTIVE)
    assert np.abs(decoded(palette, rgb_profile())[0, 0] - colour).max() <= 1
    half = decoded(Image.new("RGBA", (8, 8), (200, 120, 60, 128)), rgb_profile())
    assert np.abs(half[0, 0] - (colour * 128 + 255 * 127) / 255).max() <= 2


def test_grey_stays_one_channel():
    levels = np.arange(256, dtype=np.uint8)[None]
    pixels = decoded(Image.fromarray(levels), grey_profile(gamma=1.0))
    expected = shown_as(np.repeat(levels[0, :, None], 3, axis=1), SRGB_D50, gamma=1.0)[:, 1]
    assert pixels.shape == (1, 256, 1) and np.abs(pixels[0, :, 0] - expected).max() <= 1
    deep = decoded(Image.fromarray(levels.astype(np.uint16) * 257), grey_profile(gamma=1.0))
    assert np.array_equal(deep, pixels)
    clear = decoded(Image.new("LA", (4, 4), (64, 0)), grey_profile(gamma=1.0))
    assert clear.shape == (4, 4, 1) and (clear == 255).all()


def test_inks_are_shown_by_their_profile_and_without_one_by_pillow():
    lightness = [100.0] * 16
    lightness[8] = 50.0  # cyan alone, the first ink
    cyan = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    profile = cmyk_profile(lightness)
    assert decoded(cyan, profile, "TIFF")[0, 0] == pytest.approx([119] * 3, abs=2)
    assert decoded(Image.new("CMYK", (8, 8)), profile, "TIFF")[0, 0] == pytest.approx([255] * 3, abs=1)
    assert decoded(cyan, None, "TIFF")[0, 0].tolist() == [0, 255, 255]


@pytest.mark.parametrize(
    "profile", [SRGB, rgb_profile(SRGB_D50)[:200], b"no profile", grey_profile(), cmyk_profile([0] * 16)]
)
def test_srgb_damaged_and_foreign_profiles_change_nothing(profile):
    image = source()
    for kind in ("PNG", "TIFF"):
        assert np.array_equal(decoded(image, profile, kind), np.asarray(image))


def test_a_grey_image_with_a_profile_of_three_channels_is_as_it_is_stored():
    image = source().convert("L")
    assert np.array_equal(decoded(image, rgb_profile())[:, :, 0], np.asarray(image))


def test_the_same_bytes_whatever_the_threads():
    from concurrent.futures import ThreadPoolExecutor

    files = [save(Image.fromarray(each), "PNG", icc_profile=rgb_profile()) for each in pictures(8)]
    alone = [decode(data, MAX_PIXELS).tobytes() for data in files]
    with ThreadPoolExecutor(4) as pool:
        assert [each.tobytes() for each in pool.map(lambda data: decode(data, MAX_PIXELS), files * 4)] == alone * 4
