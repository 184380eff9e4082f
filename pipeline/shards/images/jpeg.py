"""JPEG by libjpeg-turbo without Pillow's copies: the same pixels and the same bytes, in about two thirds of the time.

Decoded here is a sound Huffman-coded JPEG of 8 bits with one or three components. Everything else, and every file that
libjpeg has anything to say about, is left to Pillow, whose errors are those of `decode`.
"""

import contextlib
from typing import Final, NamedTuple

import imagecodecs
import simplejpeg
from PIL import Image

from pipeline.contracts import Pixels
from pipeline.shards.images.truncation import is_short_jpeg

_START: Final = b"\xff\xd8"
_SCAN: Final = 0xDA
_APP0: Final = 0xE0
_FRAMES: Final = frozenset((0xC0, 0xC1, 0xC2))  # baseline, extended, progressive; all Huffman-coded
_PLAIN: Final = frozenset((0xDB, 0xC4, 0xDD, 0xFE))  # tables, restart interval, comment: nothing that Pillow looks at
_JFIF_BYTES: Final = 16
_REDUCTIONS: Final = (8, 4, 2)
_OVERSAMPLING: Final = 2  # 8 dB nearer to a full decode than 1, see docs/speed.md
_COLOURS: Final = {1: "GRAY", 3: "RGB"}


class Frame(NamedTuple):
    """What the header of a JPEG says."""

    height: int
    width: int
    channels: int


def read_plain_header(data: bytes) -> Frame | None:
    """Return the frame of a JPEG whose header says nothing beside it; None for all else.

    So an image without EXIF, XMP and a colour profile, whose header needs no look by Pillow.
    """
    if data[:2] != _START:
        return None
    at, frame = 2, None
    while at + 4 <= len(data) and data[at] == 0xFF:
        kind, size = data[at + 1], data[at + 2] << 8 | data[at + 3]
        body, at = at + 4, at + 2 + size
        if kind in _FRAMES:
            frame = _frame(data[body:at]) if frame is None else None
            if frame is None:
                return None
        elif kind == _SCAN:
            return frame
        elif size < 2 or (kind not in _PLAIN and not _is_jfif(kind, data[body:at])):
            return None
    return None


def reduction(frame: Frame, side: int) -> int:
    """Return the largest of 8, 4, 2 and 1 by which both sides of a frame can be divided and still be 2 x `side` px."""
    shorter = min(frame.height, frame.width)
    return next((factor for factor in _REDUCTIONS if shorter >= factor * _OVERSAMPLING * side), 1)


def decode_reduced(data: bytes, frame: Frame, factor: int) -> Pixels | None:
    """Return the pixels of a JPEG at 1 / `factor` (2, 4 or 8) of its frame, [ceil(H / f), ceil(W / f), C] uint8.

    libjpeg reads every code and takes the inverse transform of the low frequencies alone, so pixel (y, x) stands for
    the source pixels from (f y, f x) to (f y + f, f x + f). None where Pillow must look at it.
    """
    height, width = -(-frame.height // factor), -(-frame.width // factor)
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(
            data, _COLOURS[frame.channels], min_height=height, min_width=width, min_factor=factor, strict=True
        )
    except ValueError:
        return None
    if pixels.shape != (height, width, frame.channels) or _is_short(pixels[-1, -1:], data):
        return None
    return pixels


def decode_jpeg(data: bytes, channels: int, into: Pixels | None = None) -> Pixels | None:
    """Return the pixels of a JPEG as it is stored, [H, W, C] uint8 read-only; None where Pillow must look at it.

    Args:
        channels: of the frame, 1 or 3.
        into: memory of the frame's shape to decode into, which is then returned and stays writable; its content is
            undefined where None is returned.
    """
    colours = _COLOURS[channels]
    try:  # strict: a warning is an error
        pixels: Pixels = simplejpeg.decode_jpeg(data, colours, buffer=into, strict=True)
    except ValueError:
        return None
    if _is_short(pixels[-1, -4:], data):
        return None
    if into is not None:
        return into
    pixels.flags.writeable = False
    return pixels


def encode_jpeg(pixels: Pixels, quality: int) -> bytes | None:
    """Return RGB pixels [H, W, 3] uint8 as JPEG, 4:2:0, byte for byte as Pillow does; None where Pillow must do it."""
    if pixels.shape[2] != 3 or not pixels.flags.c_contiguous:
        return None
    with contextlib.suppress(Exception):  # too wide, too high: Pillow says what is wrong
        return bytes(imagecodecs.jpeg8_encode(pixels, level=quality, subsampling="420"))
    return None


def _is_short(corner: Pixels, data: bytes) -> bool:
    """Return whether the codes of a JPEG end early. `corner`: its last pixels, which are then grey."""
    values = corner.tobytes()
    return 127 <= min(values) <= max(values) <= 129 and is_short_jpeg(data)


def _frame(body: bytes) -> Frame | None:
    if len(body) < 6 or body[0] != 8 or body[5] not in _COLOURS or len(body) != 6 + 3 * body[5]:
        return None
    height, width = body[1] << 8 | body[2], body[3] << 8 | body[4]
    # Pillow refuses decompression bombs by a bound of its own.
    bound = Image.MAX_IMAGE_PIXELS
    small = bound is None or height * width <= bound
    return Frame(height, width, body[5]) if small and height and width else None


def _is_jfif(kind: int, body: bytes) -> bool:
    return kind == _APP0 and len(body) + 2 >= _JFIF_BYTES and body.startswith(b"JFIF\0")
