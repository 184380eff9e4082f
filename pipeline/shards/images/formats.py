"""Image file formats: which are read, which are only recognised, and an image's header before it is decoded.

Read: JPEG (with MPO, by its first image), PNG, WebP, GIF, BMP, TIFF, the PPM family, ICO, AVIF, TGA. TGA has no magic
number, so it is tried only where nothing else fits. Named in the error, and not read: HEIC, JPEG XL, JPEG 2000, and
what else is often met among images (`UNSUPPORTED`). Nothing is guessed from a file name.
"""

import contextlib
import ctypes
import io
import re
import struct
from pathlib import Path
from typing import Final

import PIL
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    IcoImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TgaImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
    features,
)

from pipeline.errors import RowError

# Importing a plugin registers it: these ten and no others, so that opening an image never loads all of Pillow's forty.
PLUGINS: Final = (
    JpegImagePlugin, PngImagePlugin, WebPImagePlugin, GifImagePlugin, BmpImagePlugin,
    TiffImagePlugin, PpmImagePlugin, IcoImagePlugin, AvifImagePlugin, TgaImagePlugin,
)  # fmt: skip
FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "ICO", "AVIF", "TGA")

# AVIF decoders split a frame by the threads they are given, and its pixels may depend on that: one, everywhere.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1

# libtiff says on stderr, past Python and between our lines, what Pillow raises as well. Its wheels bring their own.
for _library in (Path(PIL.__file__).parent.parent / "pillow.libs").glob("libtiff-*"):
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(str(_library)).TIFFSetErrorHandler(None)

PNG_MAGIC: Final = b"\x89PNG\r\n\x1a\n"
_MAGIC: Final[tuple[tuple[str, re.Pattern[bytes]], ...]] = (
    ("JPEG", re.compile(rb"\xff\xd8\xff")),
    ("PNG", re.compile(re.escape(PNG_MAGIC))),
    ("WEBP", re.compile(rb"RIFF....WEBP", re.DOTALL)),
    ("GIF", re.compile(rb"GIF8[79]a")),
    ("BMP", re.compile(rb"BM")),
    ("TIFF", re.compile(rb"II[*+]\x00|MM\x00[*+]")),
    ("PPM", re.compile(rb"P[0-6fFy][\s#]")),
    ("ICO", re.compile(rb"\x00\x00\x01\x00")),
)
_SHORT_MAGIC: Final = ("BMP", "PPM", "ICO")  # of so few bytes that other data begins with them, too
_BRANDS: Final = {
    b"avif": "AVIF", b"avis": "AVIF",
    b"heic": "HEIC", b"heix": "HEIC", b"heim": "HEIC", b"heis": "HEIC", b"hevc": "HEIC", b"hevx": "HEIC",
    b"hevm": "HEIC", b"hevs": "HEIC", b"mif1": "HEIC", b"msf1": "HEIC", b"crx ": "Canon CR3",
}  # fmt: skip
UNSUPPORTED: Final[tuple[tuple[str, re.Pattern[bytes]], ...]] = (
    ("JPEG XL", re.compile(rb"\xff\x0a|\x00\x00\x00\x0cJXL \r\n\x87\n")),
    ("JPEG 2000", re.compile(rb"\x00\x00\x00\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51")),
    ("JPEG XR", re.compile(rb"II\xbc[\x00\x01]")),
    ("Photoshop PSD", re.compile(rb"8BPS")),
    ("OpenEXR", re.compile(rb"\x76\x2f\x31\x01")),
    ("Radiance HDR", re.compile(rb"#\?R(?:ADIANCE|GBE)")),
    ("DICOM", re.compile(rb".{128}DICM", re.DOTALL)),
    ("DDS", re.compile(rb"DDS ")),
    ("QOI", re.compile(rb"qoif")),
    ("FITS", re.compile(rb"SIMPLE  =")),
)


def sniff(data: bytes) -> str | None:
    """Return the Pillow format by the first bytes; None if unknown. TGA has no magic number."""
    found = next((name for name, magic in _MAGIC if magic.match(data)), None)
    return "AVIF" if found is None and _brand(data) == "AVIF" else found


def unsupported_format(data: bytes) -> str | None:
    """Return the name of a format that is recognised but not read; None for all other bytes."""
    brand = _brand(data)
    if brand is not None:
        return None if brand == "AVIF" else brand
    return next((name for name, magic in UNSUPPORTED if magic.match(data)), None)


def is_image(data: bytes) -> bool:
    """Return whether bytes are certainly an image file, read or not, by a magic number of more than three bytes."""
    found = sniff(data)
    if found == "BMP":
        return len(data) >= 14 and int.from_bytes(data[2:6], "little") == len(data)
    return found not in (None, *_SHORT_MAGIC) or unsupported_format(data) is not None


def open_image(data: bytes, max_pixels: int) -> Image.Image:
    """Open an image: read its header and check its size; nothing is decoded.

    Raises:
        RowError: `unsupported_format` (a format that is only recognised), `not_an_image`, `too_large`,
            `decode_failed` (the header is truncated or corrupt).
    """
    announced = sniff(data)
    if announced is None or (announced == "AVIF" and not features.check("avif")):
        name = unsupported_format(data) if announced is None else "AVIF, and this Pillow was built without it"
        if name is not None:
            raise RowError("unsupported_format", f"it is {name}; it is not read: convert it to PNG, JPEG or WebP first")
    try:
        image = Image.open(io.BytesIO(data), formats=(announced or "TGA",))
    except UnidentifiedImageError as error:
        if announced is None:
            known = ", ".join(FORMATS)
            message = f"{len(data)} bytes beginning {data[:8].hex(' ')} are none of {known}"
            raise RowError("not_an_image", message) from error
        raise RowError("decode_failed", f"it begins as {announced}, but its header is truncated or corrupt") from error
    sizes = [image.size, *(_ico_sizes(data) if announced == "ICO" else ())]
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    if width * height > max_pixels:
        message = f"it declares {width} x {height} pixels; input.max_pixels is {max_pixels}"
        raise RowError("too_large", message)
    return image


def _brand(data: bytes) -> str | None:
    """Return the format of an ISO media file by its major brand, or by a compatible brand if that one is general."""
    if data[4:8] != b"ftyp":
        return None
    end = min(int.from_bytes(data[:4], "big"), 256, len(data))
    brands = [data[8:12], *(data[start : start + 4] for start in range(16, end - 3, 4))]
    known = [_BRANDS[brand] for brand in brands if brand in _BRANDS]
    if known and brands[0] in (b"mif1", b"msf1"):
        return "AVIF" if "AVIF" in known else "HEIC"
    return _BRANDS.get(brands[0])


def _ico_sizes(data: bytes) -> list[tuple[int, int]]:
    """Return the sizes that the images inside an ICO file declare: its own table holds one byte a side and may lie."""
    sizes = []
    (count,) = struct.unpack_from("<H", data, 4)
    for entry in range(count):
        (start,) = struct.unpack_from("<I", data, 6 + 16 * entry + 12)
        head = data[start : start + 24]
        if len(head) < 24:
            continue
        if head.startswith(PNG_MAGIC):
            sizes.append(struct.unpack_from(">II", head, 16))
        else:
            width, height = struct.unpack_from("<ii", head, 4)
            sizes.append((abs(width), abs(height) // 2))
    return [(int(width), int(height)) for width, height in sizes]
