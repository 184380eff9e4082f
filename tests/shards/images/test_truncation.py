"""Files that end in order with a part of their rows are errors; whole ones are not, whatever their last row."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import RowError
from pipeline.shards.images.codecs import decode
from tests.fixtures.broken_images import raw_png, save
from tests.fixtures.shard_files import pictures

MAX_PIXELS = 10**8
KINDS = {"L": (8, 0, 1), "RGB": (8, 2, 3), "LA": (8, 4, 2), "RGBA": (8, 6, 4), "I;16": (16, 0, 2), "RGB;16": (16, 2, 6)}


def line(value: int | None, width: int, seed: int = 0) -> bytes:
    """Return one scan line of a PNG: of one value, or of any."""
    noise = np.random.default_rng(seed).integers(0, 256, width, dtype=np.uint8).tobytes()
    return b"\0" + (noise if value is None else bytes([value]) * width)


def refused(data: bytes) -> bool:
    try:
        decode(data, MAX_PIXELS)
    except RowError as error:
        assert error.code == "decode_failed" and "truncated" in error.message
        return True
    return False


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [0, 1, 12, 23])
def test_a_png_with_a_part_of_its_rows(kind, rows):
    depth, colour, size = KINDS[kind]
    assert refused(raw_png(32, 24, depth, colour, line(None, 32 * size) * rows))
    assert refused(raw_png(32, 24, depth, colour, line(None, 32 * size) * rows + b"\0" * 9))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [0, 0xA5, 255, None])
def test_a_whole_png_whatever_its_last_row(kind, value):
    depth, colour, size = KINDS[kind]
    data = raw_png(32, 24, depth, colour, line(None, 32 * size) * 12 + line(value, 32 * size) * 12)
    assert decode(data, MAX_PIXELS, 16).shape[:2] == (24, 32)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_less_than_8_bits(depth):
    row = line(None, 4 * depth)
    assert refused(raw_png(32, 24, depth, 0, row * 12)) and not refused(raw_png(32, 24, depth, 0, row * 24))
    assert not refused(raw_png(32, 24, depth, 0, line(255, 4 * depth) * 24))


def test_an_interlaced_png():
    def png(rows: bytes) -> bytes:
        head = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 1)
        chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
        parts = (struct.pack(">I", len(b)) + n + b + struct.pack(">I", zlib.crc32(n + b)) for n, b in chunks)
        return b"\x89PNG\r\n\x1a\n" + b"".join(parts)

    passes = [(1, 1), (1, 1), (2, 1), (2, 2), (4, 2), (4, 4), (8, 4)]
    rows = b"".join(line(100, width) * height for width, height in passes)
    assert not refused(png(rows)) and refused(png(rows[:-1])) and refused(png(rows[:40]))


def test_a_png_in_several_chunks_and_in_an_icon():
    image = Image.fromarray(pictures(1, 64, 64)[0])
    assert not refused(save(image, "ICO", sizes=[(64, 64)]))
    half = raw_png(64, 64, 8, 6, line(None, 256) * 32)
    icon = struct.pack("<HHHBBBBHHII", 0, 1, 1, 64, 64, 0, 0, 1, 32, len(half), 22) + half
    assert refused(icon)


def test_a_tiff_with_a_part_of_its_strips():
    data = bytearray(save(Image.fromarray(pictures(1, 240, 320)[0]), "TIFF"))
    assert not refused(bytes(data))
    for strip_rows in (240, 480):  # one strip of two; and one that is too short
        longer = bytearray(data)
        for tag, value in ((257, 480), (278, strip_rows)):
            at = next(a for a in (data.find(struct.pack("<HH", tag, kind)) for kind in (3, 4)) if a >= 0)
            longer[at + 8 : at + 12] = struct.pack("<I", value)
        assert refused(bytes(longer))


@pytest.mark.parametrize("settings", [{}, {"restart_marker_rows": 1}, {"optimize": True}, {"quality": 30}])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_jpeg_with_a_part_of_its_rows(mode, settings):
    image = Image.fromarray(pictures(1, 128, 160)[0]).convert(mode)
    data = save(image, "JPEG", **settings)
    start = data.index(b"\xff\xda") + 14
    assert not refused(data)
    for share in (0.1, 0.5, 0.8):
        part = data[: start + int((len(data) - start) * share)].rstrip(b"\xff")
        assert refused(part + b"\xff\xd9")


def taller(data: bytes, rows: int) -> bytes:
    """Return a file whose head says more rows than there are: it ends in order with a part of them."""
    made = bytearray(data)
    if data.startswith(b"GIF"):
        first = data.index(b",", 13 + 3 * 2 ** ((data[10] & 7) + 1))
        made[8:10] = made[first + 7 : first + 9] = struct.pack("<H", rows)
    elif data.startswith(b"BM"):
        made[22:26] = struct.pack("<i", rows)
    elif data.startswith(b"RIFF"):
        if b"VP8X" in data:
            made[27:30] = (rows - 1).to_bytes(3, "little")
        if b"VP8L" in data:
            at = data.index(b"VP8L") + 9
            (packed,) = struct.unpack_from("<I", data, at)
            made[at : at + 4] = struct.pack("<I", packed & ~(0x3FFF << 14) | (rows - 1) << 14)
        else:
            at = data.index(b"\x9d\x01\x2a") + 5
            made[at : at + 2] = struct.pack("<H", rows)
    elif data.startswith(b"\xff\xd8"):
        at = next(at for at in (data.find(b"\xff\xc0"), data.find(b"\xff\xc2")) if at >= 0)
        made[at + 5 : at + 7] = struct.pack(">H", rows)
    elif data.startswith(b"II"):
        (table,) = struct.unpack_from("<I", data, 4)
        for at in range(table + 2, table + 2 + 12 * data[table], 12):
            if struct.unpack_from("<H", data, at)[0] in (257, 278):
                made[at + 2 : at + 12] = struct.pack("<HII", 4, 1, rows)
    elif data.startswith(b"P6"):
        return data.replace(b" 32\n", b" %d\n" % rows)
    elif data.startswith(b"\x89PNG"):
        made[20:24] = struct.pack(">I", rows)
        made[29:33] = struct.pack(">I", zlib.crc32(bytes(made[12:29])))
        if b"fcTL" in data:
            at = data.index(b"fcTL")
            made[at + 12 : at + 16] = struct.pack(">I", rows)
            made[at + 30 : at + 34] = struct.pack(">I", zlib.crc32(bytes(made[at : at + 30])))
    else:  # TGA
        made[14:16] = struct.pack("<H", rows)
    return bytes(made)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("GIF", {}), ("GIF", {"interlace": 0}), ("GIF", {"save_all": True}), ("BMP", {}), ("TGA", {}), ("PPM", {}),
        ("TGA", {"compression": "tga_rle"}), ("WEBP", {}), ("WEBP", {"lossless": True}), ("PNG", {}),
        ("PNG", {"save_all": True}), ("PNG", {"save_all": True, "default_image": True}), ("TIFF", {}),
        *(("TIFF", {"compression": each}) for each in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")),
        ("JPEG", {}), ("JPEG", {"progressive": True}), ("JPEG", {"subsampling": 0}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("colour", [None, "red"])
def test_every_format_with_half_of_its_rows(kind, settings, colour, capfd):
    colour = None if "lossless" in settings else colour  # a WebP of one colour has no codes that could be missing
    first, second = (
        Image.fromarray(each) if colour is None else Image.new("RGB", (48, 32), colour) for each in pictures(2, 32, 48)
    )
    if kind == "GIF":
        first, second = first.quantize(64), second.quantize(64)
    if settings.get("save_all"):
        settings = {**settings, "append_images": [second]}
    data = save(first, kind, **settings)
    assert decode(data, MAX_PIXELS).shape == (32, 48, 3) == decode(taller(data, 32), MAX_PIXELS).shape
    with pytest.raises(RowError) as caught:
        decode(taller(data, 64), MAX_PIXELS)
    assert caught.value.code == "decode_failed"
    assert capfd.readouterr() == ("", "")  # nor does a library in C say anything


def test_a_jpeg_in_a_tiff_with_a_part_of_its_codes():
    data = save(Image.fromarray(pictures(1, 128, 160)[0]), "TIFF", compression="jpeg")
    start = data.index(b"\xff\xda")
    end = data.index(b"\xff\xd9", start)
    half = (start + end) // 2
    part = data[:half] + b"\xff\xd9" + bytes(end - half) + data[end + 2 :]
    assert len(part) == len(data) and not refused(data) and refused(part)


@pytest.mark.parametrize("settings", [{}, {"progressive": True}, {"restart_marker_blocks": 3}, {"quality": 20}])
@pytest.mark.parametrize("colour", ["white", "black", "#336699", "#808080"])
def test_a_whole_jpeg_whatever_its_last_rows(colour, settings):
    for size in ((160, 128), (17, 33), (8, 8)):
        image = Image.fromarray(pictures(1, size[1], size[0])[0])
        image.paste(colour, (0, size[1] // 2, *size))
        assert not refused(save(image, "JPEG", **settings))
        assert not refused(save(Image.new("RGB", size, colour), "JPEG", **settings))
