"""Files that end in order before their image does: half of the rows, and then a proper end.

Pillow takes such a PNG, JPEG or TIFF for whole, and leaves the rest of its rows black or grey. Here it is an error:

    format             told by
    ─────────────────  ─────────────────────────────────────────────────────────────────────────────────────────────────
    PNG (and in ICO)   the rows are counted by inflating the file once more, but only where the last row is as it was
                       before decoding: filled with a value that says so. Interlaced ones are always counted
    JPEG               libjpeg fills what is missing with one colour. So where the last row is of one colour, and the
                       last codes are not the recurring ones of such a row, more codes are tried: do they change it?
    TIFF               strips and tiles are counted by the tables of the file, and uncompressed ones measured

The other formats fail by themselves. A progressive JPEG that ends early is whole, and less sharp: it is taken.
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

_UNSEEN: Final = 0xA5  # seldom all of a last row
_CHUNK: Final = 1 << 20
_EOI: Final = b"\xff\xd9"
_MARKER: Final = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
_TAIL: Final = 48
_CODES: Final = bytes(range(1, 255)) * 2  # any that are no markers
_PNG_CHANNELS: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_ADAM7: Final = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def mark_unseen(image: Image.Image) -> None:
    """Write into the last row of an opened PNG, before it is decoded, the value that tells rows nobody has written."""
    if isinstance(image, PngImagePlugin.PngImageFile) and not image.info.get("interlace"):
        (width, height), single = image.size, image.mode in ("1", "L", "P", "I", "I;16")
        image.im = Image.core.new(image.mode, image.size)  # type: ignore[attr-defined]
        image.im.paste(_UNSEEN if single else (_UNSEEN,) * len(image.getbands()), (0, height - 1, width, height))


def check_whole(image: Image.Image, data: bytes) -> None:
    """Raise RowError `decode_failed` where a decoded image has fewer rows than its header says.

    Args:
        image: loaded, of a file that `mark_unseen` has seen.
        data: the file.
    """
    if isinstance(image, PngImagePlugin.PngImageFile):
        if image.info.get("interlace") or _is_unseen(image):
            _check_png(data)
    elif isinstance(image, JpegImagePlugin.JpegImageFile):
        row = image.height - 1
        if image.getpixel((0, row)) == image.getpixel((image.width - 1, row)) and _is_flat(image, row):
            _check_jpeg(image, data)
    elif isinstance(image, TiffImagePlugin.TiffImageFile):
        _check_tiff(image)
    elif isinstance(image, IcoImagePlugin.IcoImageFile):
        start = data.find(PNG_MAGIC)
        while start >= 0:
            _check_png(data[start:])
            start = data.find(PNG_MAGIC, start + len(PNG_MAGIC))


def _is_unseen(image: Image.Image) -> bool:
    """Return whether the last row may be as `mark_unseen` left it; of 16-bit grey whatever its one value is."""
    row = image.height - 1
    if image.mode in ("1", "I", "I;16"):
        return _is_flat(image, row)
    pixel = image.getpixel((0, row))
    first = pixel[0] if isinstance(pixel, tuple) else pixel
    return first == _UNSEEN and all(low == high == _UNSEEN for low, high in _extrema(image, row))


def _is_flat(image: Image.Image, row: int) -> bool:
    """Return whether a row is of one colour."""
    return all(low == high for low, high in _extrema(image, row))


def _extrema(image: Image.Image, row: int) -> tuple[tuple[Any, Any], ...]:
    """Return the least and the most of each channel in a row."""
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
    """Yield the columns and rows of each pass over a PNG: of one, or of the seven that are not empty."""
    if not interlaced:
        yield width, height
        return
    for left, top, across, down in _ADAM7:
        columns, rows = -((left - width) // across), -((top - height) // down)
        if columns > 0 and rows > 0:
            yield columns, rows


def _png_parts(data: bytes) -> Iterator[bytes]:
    """Yield what the IDAT chunks of a PNG hold."""
    at = 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind = data[at + 4 : at + 8]
        if kind == b"IEND":
            return
        if kind == b"IDAT":
            yield data[at + 8 : at + 8 + length]
        at += 12 + length


def _check_jpeg(image: Image.Image, data: bytes) -> None:
    """Compare a JPEG of one scan with itself followed by further codes, at an eighth of its size.

    A whole scan is full, and further codes change nothing; one that has ended too early takes them for what is missing.
    """
    end = _end_of_scan(data)
    if end is None or _recurs(data[end - _TAIL - 1 : end - 1]):
        return
    codes = b"".join(b"\xff" + bytes([0xD0 + turn]) + _CODES for turn in range(8))  # behind restart markers, too
    seen, longer = (_eighth(each) for each in (data[:end] + _EOI, data[:end] + _CODES + codes + _EOI))
    if seen != longer:
        message = (
            f"truncated: its codes end before {image.width} x {image.height} pixels, and then the file ends in order"
        )
        raise RowError("decode_failed", message)


def _recurs(tail: bytes) -> bool:
    """Return whether bytes repeat at some distance, as the codes of blocks of one colour do."""
    return any(tail[distance:] == tail[:-distance] for distance in range(1, len(tail) // 2))


def _end_of_scan(data: bytes) -> int | None:
    """Return where the codes of a JPEG's only scan end; None where there are several, or something else follows."""
    at = 2
    while data[at : at + 1] == b"\xff" and at + 4 <= len(data):
        kind = data[at + 1]
        at += 1 if kind == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if kind == 0xDA:
            found = _MARKER.search(data, at)
            return found.start() if found and found[0] == _EOI else None
    return None


def _eighth(data: bytes) -> bytes:
    image = Image.open(io.BytesIO(data), formats=("JPEG",))
    image.draft(None, (1, 1))
    return image.tobytes()


def _check_tiff(image: TiffImagePlugin.TiffImageFile) -> None:
    tags = image.tag_v2
    width, height = tags.get(256, 0), tags.get(257, 0)  # as it is stored, before Pillow turns it
    planes = tags.get(277, 1) if tags.get(284, 1) == 2 else 1
    if 324 in tags:
        across, down = tags.get(322, width) or 1, tags.get(323, height) or 1
        wanted, offsets = -(-width // across) * -(-height // down) * planes, tags[324]
    else:
        wanted, offsets = -(-height // min(tags.get(278, height) or 1, height)) * planes, tags.get(273, ())
    there = len(offsets) if isinstance(offsets, tuple) else 1
    if there < wanted:
        raise _missing(there, wanted, "strips or tiles")
    counts = tags.get(279)
    if tags.get(259, 1) == 1 and isinstance(counts, tuple) and 324 not in tags:
        bits = tags.get(258, (1,))
        row = (width * (sum(bits) if planes == 1 else max(bits)) + 7) // 8
        if sum(counts) < row * height * planes:
            raise _missing(sum(counts), row * height * planes, "bytes")
