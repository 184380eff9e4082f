"""Which formats are read, and which are told by name; AVIF the same whatever the machine."""

import io
import struct

import numpy as np
import pytest
from PIL import AvifImagePlugin, Image

from pipeline.errors import RowError
from pipeline.shards.images.codecs import decode
from pipeline.shards.images.formats import is_image, sniff
from tests.fixtures.broken_images import MAX_PIXELS, save, source, turned
from tests.fixtures.data_sets import plan_of, rows_of, run_here, write_recipe
from tests.fixtures.shard_files import pictures, write_shard


def ftyp(*brands: bytes) -> bytes:
    """Return the head of an ISO media file: its major brand, a version, and further brands."""
    body = brands[0] + b"\0\0\0\0" + b"".join(brands[1:])
    return struct.pack(">I", 8 + len(body)) + b"ftyp" + body + bytes(64)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (ftyp(b"heic", b"mif1", b"heic"), "HEIC"),
        (ftyp(b"mif1", b"mif1", b"heic"), "HEIC"),
        (ftyp(b"heix"), "HEIC"),
        (b"\xff\x0a" + bytes(20), "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(20), "JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(20), "JPEG 2000"),
        (b"\xff\x4f\xff\x51" + bytes(20), "JPEG 2000"),
        (b"II\xbc\x01" + bytes(20), "JPEG XR"),
        (b"8BPS" + bytes(20), "Photoshop PSD"),
        (b"\x76\x2f\x31\x01" + bytes(20), "OpenEXR"),
        (bytes(128) + b"DICM" + bytes(20), "DICOM"),
    ],
)
def test_known_formats_that_are_not_read_are_named(data, name):
    with pytest.raises(RowError, match=rf"it is {name}; it is not read: convert it to PNG, JPEG or WebP") as caught:
        decode(data, MAX_PIXELS)
    assert caught.value.code == "unsupported_format"
    assert sniff(data) is None and is_image(data)


def test_avif_is_read():
    image = source(64, 96)
    for mode, channels in (("RGB", 3), ("L", 1)):
        pixels = decode(save(image.convert(mode), "AVIF", quality=95), MAX_PIXELS)
        assert pixels.shape == (64, 96, channels)
        assert np.abs(pixels.astype(int) - np.asarray(image.convert(mode)).reshape(pixels.shape)).mean() < 2
    assert sniff(save(image, "AVIF")) == sniff(ftyp(b"avis")) == sniff(ftyp(b"mif1", b"avif")) == "AVIF"
    white = decode(save(Image.new("RGBA", (16, 16), (0, 0, 0, 0)), "AVIF", quality=100), MAX_PIXELS)
    assert (white == 255).all()


def test_avif_is_decoded_by_one_thread():
    assert AvifImagePlugin.DEFAULT_MAX_THREADS == 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_avif_is_turned_upright_once(orientation):
    upright = decode(turned(orientation, "PNG"), MAX_PIXELS).astype(int)
    pixels = decode(turned(orientation, "AVIF", quality=100), MAX_PIXELS)
    assert pixels.shape == upright.shape and np.abs(pixels - upright).mean() < 3


def test_an_animated_avif_gives_its_first_frame():
    first, second = (Image.fromarray(each) for each in pictures(2, 48, 64))
    alone = decode(save(first, "AVIF", quality=100), MAX_PIXELS)
    moving = decode(save(first, "AVIF", quality=100, save_all=True, append_images=[second]), MAX_PIXELS)
    assert np.abs(moving.astype(int) - alone).mean() < 3


def test_broken_and_huge_avif():
    data = save(source(64, 96), "AVIF")
    for cut in (16, len(data) // 2, len(data) - 9):
        with pytest.raises(RowError) as caught:
            decode(data[:cut], MAX_PIXELS)
        assert caught.value.code == "decode_failed"
    with pytest.raises(RowError, match=r"96 x 64 pixels; input\.max_pixels is 6143"):
        decode(data, 6143)


def test_an_avif_data_set_is_made_and_heic_is_quarantined_by_name(tmp_path):
    images = [*(save(Image.fromarray(each), "AVIF") for each in pictures(3)), ftyp(b"heic")]
    write_shard(tmp_path / "data" / "a.parquet", images, labels=[0] * 4)
    run_here(plan_of(write_recipe(tmp_path, output={"keep_originals": True})))
    rows = rows_of(tmp_path / "out")
    assert [row["branch"] for row in rows] == ["flipped"] * 6 + ["original"] * 3
    assert [row["image"]["bytes"] for row in rows if row["branch"] == "original"] == images[:3]
    assert {Image.open(io.BytesIO(row["image"]["bytes"])).size for row in rows[:6]} == {(32, 24)}
    lost = rows_of(tmp_path / "out", "quarantine")
    assert {row["error_code"] for row in lost} == {"unsupported_format"} and "HEIC" in lost[0]["error_message"]


def test_what_is_an_image_for_sure():
    assert all(is_image(save(source(), kind)) for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"))
    assert not any(is_image(data) for data in (b"", b"BM", b"BMW 320i", b"P5 is a page", b"\0\0\1\0\0\0", b"text"))
