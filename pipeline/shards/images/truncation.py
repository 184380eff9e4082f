"""Truncated images: files with only a part of the rows, but with a proper end.

Pillow takes such a PNG, JPEG or TIFF for complete and leaves the missing rows black or grey. Here it is an error:

    format             detected by
    ─────────────────  ─────────────────────────────────────────────────────────────────────────────────────────────────
    PNG (and in ICO)   the rows are counted by inflating the file once more, but only where the last row is as it was
                       before decoding: filled with a marker value. Interlaced ones are always counted
    JPEG               libjpeg leaves missing pixels grey. So if the last pixels are grey, codes are added behind the
                       first scan: it is truncated if they change the image
    TIFF               strips and tiles are counted by the tables of the file, and uncompressed ones measured; of JPEG
                       ones the rows are counted by their headers, and the last is tested as above

Decoders of the other formats raise by themselves, except for TIFF with fax compression, whose missing rows are blank:
it is accepted. A progressive JPEG that ends after its first scan is complete but less sharp: it is accepted.
"""

import io
import re
import struct
import zlib
from collections.abc import Iterator
from typing import Any, Final

from PIL import IcoImagePlugin, Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin

from pipeline.errors import RowError
from pipeline.shards.images.formats import PNG_MAGIC

_MARK: Final = 0xA5  # seldom all of a last row
_CHUNK: Final = 1 << 20
_EOI: Final = b"\xff\xd9"
_MARKER: Final = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
_CODES: Final = bytes(range(1, 255)) * 2  # any that are no markers
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG: Final = 7  # compression of a TIFF
_PNG_CHANNELS: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_ADAM7: Final = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def mark_last_row(image: Image.Image) -> None:
    """Fill the last row of an opened PNG with a marker value before it is decoded, to tell later if it was written."""
    if isinstance(image, PngImagePlugin.PngImageFile) and not image.info.get("interlace"):
        (width, height), single = image.size, image.mode in ("1", "L", "P", "I", "I;16")
        image.im = Image.core.new(image.mode, image.size)  # type: ignore[attr-defined]
        image.im.paste(_MARK if single else (_MARK,) * len(image.getbands()), (0, height - 1, width, height))


def check_not_truncated(image: Image.Image, data: bytes) -> None:
    """Raise RowError `decode_failed` if a decoded image has fewer rows than its header says.

    Args:
        image: loaded, after `mark_last_row` was called on it.
        data: the file.
    """
    if isinstance(image, PngImagePlugin.PngImageFile):
        if image.info.get("interlace") or _is_last_row_marked(image):
            _check_png(data)
    elif isinstance(image, JpegImagePlugin.JpegImageFile):
        if _ends_grey(image) and is_short_jpeg(data):
            raise _missing_codes(image)
    elif isinstance(image, TiffImagePlugin.TiffImageFile):
        _check_tiff(image, data)
    elif isinstance(image, IcoImagePlugin.IcoImageFile):
        start = data.find(PNG_MAGIC)
        while start >= 0:
            _check_png(data[start:])
            start = data.find(PNG_MAGIC, start + len(PNG_MAGIC))


def _is_last_row_marked(image: Image.Image) -> bool:
    """Return whether the last row may still hold the marker value; of 16-bit grey, whether it has one value only."""
    row = image.height - 1
    if image.mode in ("1", "I", "I;16"):
        return _is_flat(image, row)
    pixel = image.getpixel((0, row))
    first = pixel[0] if isinstance(pixel, tuple) else pixel
    return first == _MARK and all(low == high == _MARK for low, high in _extrema(image, row))


def _is_flat(image: Image.Image, row: int) -> bool:
    """Return whether a row is of one colour."""
    return all(low == high for low, high in _extrema(image, row))


def _ends_grey(image: Image.Image) -> bool:
    """Return whether the last pixels of the last row are grey, as libjpeg leaves pixels without data."""
    last = image.crop((max(0, image.width - 4), image.height - 1, image.width, image.height))
    return all(127 <= low <= high <= 129 for low, high in _extrema(last, 0))


def _extrema(image: Image.Image, row: int) -> tuple[tuple[Any, Any], ...]:
    """Return the smallest and the largest value of each channel in a row."""
    found: Any = image.crop((0, row, image.width, row + 1)).getextrema()
    return found if isinstance(found[0], tuple) else (found,)


def _missing(there: int, wanted: int, what: str) -> RowError:
    return RowError(
        "decode_failed", f"truncated: {there} of {wanted} {what} are there, and then the file ends in order"
    )


def _check_png(data: bytes) -> None:
    width, height, depth, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    bits = depth * _PNG_CHANNELS.get(colour, 1)
    wanted = sum(rows * (1 + (columns * bits + 7) // 8) for columns, rows in _passes(width, height, interlaced))
    inflate, there = zlib.decompressobj(), 0
    for part in _png_parts(data):
        while part and there < wanted:
            there += len(inflate.decompress(part, _CHUNK))
            part = inflate.unconsumed_tail
        if inflate.eof or there >= wanted:
            break
    there += len(inflate.flush()) if there < wanted else 0
    if there < wanted:
        raise _missing(there, wanted, "bytes of its rows")


def _passes(width: int, height: int, interlaced: int) -> Iterator[tuple[int, int]]:
    """Yield the width and height of each pass of a PNG: one, or the non-empty ones of seven if it is interlaced."""
    if not interlaced:
        yield width, height
        return
    for left, top, across, down in _ADAM7:
        columns, rows = -((left - width) // across), -((top - height) // down)
        if columns > 0 and rows > 0:
            yield columns, rows


def _png_parts(data: bytes) -> Iterator[bytes]:
    """Yield the content of each IDAT chunk of a PNG."""
    at = 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind = data[at + 4 : at + 8]
        if kind == b"IEND":
            return
        if kind == b"IDAT":
            yield data[at + 8 : at + 8 + length]
        at += 12 + length


def _missing_codes(image: Image.Image) -> RowError:
    message = f"truncated: its codes end before {image.width} x {image.height} pixels, and then the file ends in order"
    return RowError("decode_failed", message)


def is_short_jpeg(data: bytes) -> bool:
    """Return whether the first scan of a JPEG is truncated: decode it with and without extra codes, at 1/8 size.

    Extra codes after a complete scan change nothing; after a truncated one they are decoded as the missing blocks.
    """
    end = _end_of_scan(data)
    if end is None:
        return False
    codes = b"".join(b"\xff" + bytes([0xD0 + turn]) + _CODES for turn in range(8))  # behind restart markers, too
    try:
        return _eighth(data[:end] + _EOI) != _eighth(data[:end] + _CODES + codes + _EOI)
    except Exception:  # the file itself was decoded; its first scan alone need not be
        return False


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of each segment of a JPEG up to its first scan."""
    at = 2
    while data[at : at + 1] == b"\xff" and at + 4 <= len(data):
        kind = data[at + 1]
        end = at + 1 if kind == 0xFF else at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        yield kind, at + 4, end
        if kind == 0xDA:
            return
        at = end


def _end_of_scan(data: bytes) -> int | None:
    """Return the offset at which the first scan of a JPEG ends; None if it has no end."""
    start = next((end for kind, _, end in _segments(data) if kind == 0xDA), None)
    found = None if start is None else _MARKER.search(data, start)
    return found.start() if found else None


def _rows(data: bytes) -> int:
    """Return the height in the header of a JPEG."""
    return next((int.from_bytes(data[at + 1 : at + 3], "big") for kind, at, _ in _segments(data) if kind in _FRAMES), 0)


def _eighth(data: bytes) -> bytes:
    image = Image.open(io.BytesIO(data), formats=("JPEG",))
    image.draft(None, (1, 1))
    return image.tobytes()


def _check_tiff(image: TiffImagePlugin.TiffImageFile, data: bytes) -> None:
    tags = image.tag_v2
    width, height = tags.get(256, 0), tags.get(257, 0)  # as it is stored, before Pillow turns it
    planes = tags.get(277, 1) if tags.get(284, 1) == 2 else 1
    if 324 in tags:
        across, down = tags.get(322, width) or 1, tags.get(323, height) or 1
        offsets, counts = _several(tags[324]), _several(tags.get(325))
        wanted, held = -(-width // across) * -(-height // down) * planes, across * down
    else:
        across, down = width, min(tags.get(278, height) or 1, height)
        offsets, counts = _several(tags.get(273)), _several(tags.get(279))
        wanted, held = -(-height // down) * planes, 0
    if len(offsets) < wanted:
        raise _missing(len(offsets), wanted, "strips or tiles")
    if tags.get(259, 1) == 1 and counts:
        bits = tags.get(258, (1,))
        deep = sum(bits) if planes == 1 else max(bits)
        size = (held * deep + 7) // 8 * wanted if held else (width * deep + 7) // 8 * height * planes
        if sum(counts) < size:
            raise _missing(sum(counts), size, "bytes")
    if tags.get(259) == _JPEG:
        parts = [data[start : start + count] for start, count in zip(offsets, counts, strict=False)]
        last = height - (height - 1) // down * down if 324 not in tags else down
        for place, part in enumerate(parts):
            rows = last if (place + 1) % (wanted // planes) == 0 else down
            if _rows(part) < rows:
                raise _missing(_rows(part), rows, "rows of a strip or tile")
        tables = tags.get(347, b"")[:-2] or b"\xff\xd8"
        if parts and _ends_grey(image) and is_short_jpeg(tables + parts[-1][2:]):
            raise _missing_codes(image)


def _several(value: Any) -> tuple[int, ...]:
    """Return the numbers of a TIFF tag as a tuple; Pillow gives a single one as a number."""
    return value if isinstance(value, tuple) else () if value is None else (value,)
