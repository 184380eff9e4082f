"""Images as data sets really hold them: broken, empty, huge, tiny, oddly coloured, animated, and not images at all."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

MAX_PIXELS = 50_000_000
"""The bound that the expectations of `ugly_rows` are made for: the default of `input.max_pixels`."""


def ugly_rows() -> list[tuple[str, bytes, str]]:
    """Return (name, bytes, expectation) of each: `ok`, or the code of the RowError that `decode` raises."""
    return [*_modes(), *_containers(), *_sizes(), *_broken(), *_strangers()]


def source(height: int = 24, width: int = 32) -> Image.Image:
    """Return a small RGB picture: a gradient whose four corners differ, so that every turn shows."""
    y, x = np.mgrid[0:height, 0:width]
    red, green = x * 255 // max(width - 1, 1), y * 255 // max(height - 1, 1)
    return Image.fromarray(np.stack([red, green, 255 - (red + green) // 2], axis=2).astype(np.uint8))


def save(image: Image.Image, kind: str, **settings: Any) -> bytes:
    """Return an image encoded by Pillow."""
    out = io.BytesIO()
    image.save(out, kind, **settings)
    return out.getvalue()


def turned(orientation: int, kind: str = "JPEG", **settings: Any) -> bytes:
    """Return `source()` with an EXIF orientation; its stored pixels are as they are."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return save(source(), kind, exif=exif, **settings)


def raw_png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """Return a PNG file put together by hand; `rows` are the filtered scan lines, and may be too few."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


def grey16(height: int = 24, width: int = 32) -> Image.Image:
    """Return 16-bit grey from 0 to 65535."""
    return Image.fromarray(np.linspace(0, 65_535, height * width).astype(np.uint16).reshape(height, width))


def with_alpha() -> Image.Image:
    """Return `source()` with an alpha channel from 0 (left) to 255 (right)."""
    image = source().convert("RGBA")
    image.putalpha(image.getchannel("R"))
    return image


def _modes() -> list[tuple[str, bytes, str]]:
    image = source()
    rgb16 = b"".join(b"\0" + np.linspace(0, 65_535, 8 * 3).astype(">u2").tobytes() for _ in range(8))
    floats = Image.fromarray(np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8))
    deep = Image.fromarray(np.full((8, 8), 70_000, np.int32))
    return [
        ("plain.jpg", save(image, "JPEG"), "ok"),
        ("progressive.jpg", save(image, "JPEG", progressive=True), "ok"),
        ("grey.jpg", save(image.convert("L"), "JPEG"), "ok"),
        ("cmyk.jpg", save(image.convert("CMYK"), "JPEG"), "ok"),
        ("plain.png", save(image, "PNG"), "ok"),
        ("grey_16_bit.png", save(grey16(), "PNG"), "ok"),
        ("colour_16_bit.png", raw_png(8, 8, 16, 2, rgb16), "ok"),
        ("rgba.png", save(with_alpha(), "PNG"), "ok"),
        ("la.png", save(with_alpha().convert("LA"), "PNG"), "ok"),
        ("one_bit.png", save(image.convert("1"), "PNG"), "ok"),
        ("palette.png", save(image.quantize(16), "PNG"), "ok"),
        ("palette_transparent.png", save(image.quantize(16), "PNG", transparency=3), "ok"),
        ("colour_key.png", save(image, "PNG", transparency=(0, 0, 255)), "ok"),
        ("grey_key.png", save(image.convert("L"), "PNG", transparency=7), "ok"),
        ("floats.tif", save(floats, "TIFF"), "unsupported_mode"),
        ("beyond_16_bit.tif", save(deep, "TIFF"), "unsupported_mode"),
    ]


def _containers() -> list[tuple[str, bytes, str]]:
    image = source()
    frames = [Image.fromarray(np.roll(np.asarray(image), i, axis=1)) for i in range(1, 3)]
    many: dict[str, Any] = {"save_all": True, "append_images": frames}
    return [
        ("turned.jpg", turned(6), "ok"),
        ("turned.png", turned(8, "PNG"), "ok"),
        ("turned.webp", turned(3, "WEBP"), "ok"),
        ("turned.tif", turned(5, "TIFF"), "ok"),
        ("broken_exif.jpg", save(image, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7fgarbage"), "ok"),
        ("animated.gif", save(image, "GIF", **many), "ok"),
        ("animated.webp", save(image, "WEBP", **many), "ok"),
        ("animated.png", save(image, "PNG", **many), "ok"),
        ("two_images.mpo", save(image, "MPO", **many), "ok"),
        ("plain.webp", save(image, "WEBP"), "ok"),
        ("alpha.webp", save(with_alpha(), "WEBP", lossless=True), "ok"),
        ("plain.bmp", save(image, "BMP"), "ok"),
        ("plain.tga", save(image, "TGA"), "ok"),
        ("packed_alpha.tga", save(with_alpha(), "TGA", compression="tga_rle"), "ok"),
        ("plain.ico", save(image, "ICO"), "ok"),
        ("bitmap.ico", save(image, "ICO", bitmap_format="bmp", sizes=[(16, 16)]), "ok"),
        ("plain.ppm", save(image, "PPM"), "ok"),
        ("grey.pgm", save(image.convert("L"), "PPM"), "ok"),
        ("plain.tif", save(image, "TIFF"), "ok"),
        ("grey_16_bit.tif", save(grey16(), "TIFF"), "ok"),
        ("cmyk.tif", save(image.convert("CMYK"), "TIFF"), "ok"),
        ("lab.tif", save(image.convert("LAB"), "TIFF"), "ok"),
        ("jpeg_inside.png", save(image, "JPEG"), "ok"),
    ]


def _sizes() -> list[tuple[str, bytes, str]]:
    inner = raw_png(30_000, 30_000, 8, 2, b"\0")
    ico = struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(inner), 22) + inner
    screen = struct.pack("<HHBBB", 30_000, 30_000, 0x80, 0, 0) + bytes(6)
    gif = b"GIF89a" + screen + b"," + struct.pack("<HHHHB", 0, 0, 30_000, 30_000, 0) + b"\x02\x01\x44\0;"
    return [
        ("one_pixel.png", save(source(1, 1), "PNG"), "ok"),
        ("one_pixel.jpg", save(source(1, 1), "JPEG"), "ok"),
        ("strip.png", save(source(5000, 1), "PNG"), "ok"),
        ("lying_strip.jpg", save(source(1, 5000), "JPEG"), "ok"),
        ("huge.png", inner, "too_large"),
        ("above_the_bound.png", raw_png(8_000, 8_000, 8, 2, b"\0"), "too_large"),
        ("above_pillows_warning.png", raw_png(10_000, 9_500, 8, 2, b"\0"), "too_large"),
        ("huge_inside.ico", ico, "too_large"),
        ("huge.gif", gif, "too_large"),
    ]


def _broken() -> list[tuple[str, bytes, str]]:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    whole = {kind: save(image, kind) for kind in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM", "TGA")}
    halves = [(f"half.{kind.lower()}", data[: len(data) // 2], "decode_failed") for kind, data in whole.items()]
    flipped = bytearray(whole["PNG"])
    flipped[len(flipped) // 2] ^= 0xFF
    zero = raw_png(0, 0, 8, 2, b"")
    return [
        *halves,
        ("flipped.png", bytes(flipped), "decode_failed"),
        ("header_only.jpg", whole["JPEG"][:20], "decode_failed"),
        ("header_only.png", whole["PNG"][:12], "decode_failed"),
        ("zero_by_zero.png", zero, "decode_failed"),
        ("missing_end.jpg", whole["JPEG"][:-200], "decode_failed"),
    ]


def _strangers() -> list[tuple[str, bytes, str]]:
    return [
        ("empty.jpg", b"", "empty_image"),
        ("text.jpg", b"The quick brown fox jumps over the lazy dog.\n" * 20, "not_an_image"),
        ("page.html", b"<!DOCTYPE html><html><body>404 Not Found</body></html>", "not_an_image"),
        ("paper.pdf", b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog >>\nendobj\n%%EOF\n", "not_an_image"),
        ("drawing.svg", b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', "not_an_image"),
        ("random.png", np.random.default_rng(1).bytes(4096), "not_an_image"),
        ("zeros.png", bytes(4096), "not_an_image"),
        ("one_byte.png", b"\x89", "not_an_image"),
    ]
