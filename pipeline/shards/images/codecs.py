"""Image codecs: encoded bytes to pixels and back, and the resizing, cropping and channel changes of an output.

What `decode` makes of each kind of image. Nothing else is accepted, and nothing is guessed from a file name.

    stored as                                  becomes
    ─────────────────────────────────────────  ─────────────────────────────────────────────────────────────
    grey: L, 1 bit                             1 channel (1 bit: 0 or 255)
    RGB, RGBX                                  3 channels
    LA, La; L with a transparent colour        over white, 1 channel
    RGBA, RGBa, PA; RGB or palette with
    a transparent colour                       over white, 3 channels
    palette                                    3 channels
    CMYK                                       3 channels, by its colour profile, without one by Pillow's formula
    YCbCr, LAB, HSV                            3 channels, by Pillow's own conversion
    an embedded colour profile                 converted to sRGB, see `pipeline.shards.images.colour_profiles`
    16-bit grey; 32-bit whole numbers, all
    within 0..65535                            1 channel, divided by 257, rounded to nearest; a transparent value white
    the same with values below 4,096 alone     RowError `ambiguous_depth` unless `bit_depth` says of how many bits
    16-bit colour, or grey with alpha          the high bytes, as Pillow reads them, and then as above
    floats; whole numbers beyond 0..65535      RowError `unsupported_mode`
    EXIF orientation 2..8                      turned upright; an EXIF block that cannot be read counts as upright
    animation; several sizes (ICO)             its first frame (of an APNG its default image); the largest size

An animation that is AVIF gives its first frame, too. Formats: see `pipeline.shards.images.formats`.
"""

import io
import re
import warnings
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from PIL import Image

from pipeline.contracts import Pixels
from pipeline.errors import RowError
from pipeline.shards.images.bit_depth import check_high_bytes, from_integers, is_16_bit, is_scaled
from pipeline.shards.images.colour_profiles import to_srgb
from pipeline.shards.images.formats import PNG_MAGIC, open_image, sniff
from pipeline.shards.images.jpeg import Frame, decode_jpeg, decode_reduced, encode_jpeg, read_plain_header, reduction
from pipeline.shards.images.png import encode_png
from pipeline.shards.images.truncation import check_not_truncated, mark_last_row

Encoding = Literal["png", "jpeg", "webp"]
Channels = Literal["source", "rgb", "grey"]

DECODER: Final = "decode/2"
"""Version of `decode`, in every unit's digest. Version 1 ignored colour profiles and bit depths other than 16."""

REDUCED_DECODER: Final = "reduced/1"
"""Version of `decode_square_reduced`, in the digests of units that use it."""

_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS: Final = frozenset(
    (Image.Transpose.TRANSPOSE, Image.Transpose.ROTATE_270, Image.Transpose.TRANSVERSE, Image.Transpose.ROTATE_90)
)
_EXIF_ORIENTATION: Final = 0x0112
_EXIF_HOLDERS: Final = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")
_SAVE: Final[dict[str, dict[str, Any]]] = {
    "jpeg": {"format": "JPEG", "subsampling": "4:2:0", "optimize": False},
    # Quality 90: method 0 3.2 ms 15.1 kB, method 2 4.7 ms 14.1 kB, method 4 8.9 ms 14.0 kB.
    "webp": {"format": "WEBP", "method": 2},
}
PNG_ENCODER: Final = "png/2"
"""Version of PNG's encoder, in the digests of units that write it. Version 1 was libpng's."""
_EXTENSIONS: Final = {"png": "png", "jpeg": "jpg", "webp": "webp"}


def decode(data: bytes, max_pixels: int, bit_depth: int | None = None, into: Pixels | None = None) -> Pixels:
    """Return the pixels of an encoded image by the table above: [H, W, C] uint8, C 1 or 3, contiguous, read-only.

    Args:
        max_pixels: bounds H x W and is checked from the header, before anything is decoded.
        bit_depth: how many bits the values of 16-bit images use, 8 to 16; None if the recipe does not say.
        into: memory of the shape that `read_plain_header` says, to decode into; where that succeeds it is returned, and
            stays writable.

    Raises:
        RowError: `empty_image` (no bytes), `unsupported_format` (known by name only), `not_an_image` (none of the
            formats), `too_large` (more pixels than `max_pixels`, than Pillow's own bound, or than memory),
            `unsupported_mode`, `ambiguous_depth` and `depth_exceeded` (see `pipeline.shards.images.bit_depth`),
            `decode_failed` (truncated or corrupt). No other exception, and no warning, whatever the bytes.
    """
    if not data:
        raise RowError("empty_image", "the image has 0 bytes")
    found = _plain_jpeg(data, max_pixels, into)
    if found is not None:
        return found
    _silence_pillow()
    try:
        return _pixels(open_image(data, max_pixels), data, bit_depth)
    except RowError:
        raise
    except Image.DecompressionBombError as error:
        raise RowError("too_large", _reason(error)) from error
    except MemoryError as error:
        raise RowError("too_large", "decoding it needs more memory than there is") from error
    except Exception as error:  # Pillow's plugins raise anything at all on broken bytes
        raise RowError("decode_failed", f"truncated or corrupt: {_reason(error)}") from error


def decode_square_reduced(data: bytes, max_pixels: int, n: int) -> tuple[Pixels, Frame] | None:
    """Return a JPEG decoded at 1/2, 1/4 or 1/8 of its size as `fit_square` of it, [n, n, C], and its upright shape.

    None where `decode` is to do it: the image is no JPEG of one or three components, its short side is below 4 n
    pixels, or anything is wrong with it. So errors are those of `decode`, and nothing is refused or accepted that it
    does not refuse or accept.
    """
    try:
        header = _jpeg_header(data, max_pixels)
        if header is None or (factor := reduction(header.frame, n)) == 1:
            return None
        pixels = decode_reduced(data, header.frame, factor)
        if pixels is None:
            return None
        image = _image(pixels)
        if header.profile is not None:
            image = to_srgb(image, header.profile)
    except Exception:  # `decode` will say what is wrong with it
        return None
    height, width, _ = header.frame
    left, top, right, bottom = _middle(height, width)  # in fractions: the last row and column may be of fewer pixels
    box = left / factor, top / factor, right / factor, bottom / factor
    image = image.resize((n, n), Image.Resampling.BICUBIC, box=box)
    if header.turn is not None:
        image = image.transpose(header.turn)
        height, width = (width, height) if header.turn in _SIDEWAYS else (height, width)
    made = _array(image)
    return made, Frame(height, width, made.shape[2])


class _Header(NamedTuple):
    """The header of a JPEG: its frame as stored, how to turn it upright, and its colour profile."""

    frame: Frame
    turn: Image.Transpose | None = None
    profile: bytes | None = None


def _jpeg_header(data: bytes, max_pixels: int) -> _Header | None:
    """Return the header of a JPEG of one or three components and at most `max_pixels`; None for all else."""
    frame = read_plain_header(data)
    if frame is not None:
        return _Header(frame) if frame.height * frame.width <= max_pixels else None
    if sniff(data) != "JPEG":
        return None
    _silence_pillow()
    image = open_image(data, max_pixels)
    if image.format not in ("JPEG", "MPO") or image.mode not in ("L", "RGB"):
        return None
    frame = Frame(image.height, image.width, len(image.mode))
    return _Header(frame, _turn(image), image.info.get("icc_profile"))


def pixels_declared(data: bytes) -> int:
    """Return how many pixels the header of an image declares; 0 where it cannot be read. Nothing is decoded."""
    frame = read_plain_header(data)
    if frame is not None:
        return frame.height * frame.width
    if data.startswith(PNG_MAGIC) and len(data) >= 24:
        return int.from_bytes(data[16:20], "big") * int.from_bytes(data[20:24], "big")
    _silence_pillow()
    try:
        width, height = open_image(data, 1 << 62).size
    except Exception:  # `decode` will say what is wrong with it
        return 0
    return width * height


def _plain_jpeg(data: bytes, max_pixels: int, into: Pixels | None) -> Pixels | None:
    """Return the pixels of a JPEG whose header needs no look by Pillow; None for all else."""
    frame = read_plain_header(data) if into is None else Frame(*into.shape)
    if frame is None or frame.height * frame.width > max_pixels:
        return None
    try:
        return decode_jpeg(data, frame.channels, into)
    except MemoryError:  # Pillow's path says so
        return None


def is_turned(image: Image.Image) -> bool:
    """Return whether the EXIF data of an opened image turns or mirrors it, so that `decode` moves its pixels."""
    try:
        return image.getexif().get(_EXIF_ORIENTATION, 1) in _TURNS
    except Exception:  # as in `_turn`
        return False


def encode(pixels: Pixels, encoding: Encoding, quality: int = 90) -> bytes:
    """Return `pixels` ([H, W, C] uint8, C 1 or 3) as PNG, JPEG (4:2:0) or WebP; `quality` 1..100 of the last two.

    PNG and JPEG keep one channel as grey. WebP has no grey: it decodes to three equal channels.

    Raises:
        RowError: `encode_failed`: the image is too wide or too high for the format.
        ValueError: `pixels` are not of that shape and type.
    """
    _check(pixels)
    if encoding == "png":
        return encode_png(pixels)
    made = encode_jpeg(pixels, quality) if encoding == "jpeg" else None
    if made is not None:
        return made
    settings = {**_SAVE[encoding], "quality": quality}
    image, out = _image(pixels), io.BytesIO()
    try:
        image.save(out, **settings)
    except (OSError, ValueError, OverflowError, SystemError) as error:
        size = f"{pixels.shape[1]} x {pixels.shape[0]} pixels"
        raise RowError("encode_failed", f"{size} cannot be stored as {encoding}: {_reason(error)}") from error
    return out.getvalue()


def extension(encoding: Encoding) -> str:
    """Return the file name extension of an encoding, without a dot: `png`, `jpg`, `webp`."""
    return _EXTENSIONS[encoding]


def resize(pixels: Pixels, height: int, width: int) -> Pixels:
    """Return `pixels` [H, W, C] as [height, width, C]: bicubic, antialiased where it shrinks (Pillow)."""
    if pixels.shape[:2] == (height, width):
        return pixels
    return _array(_image(pixels).resize((width, height), Image.Resampling.BICUBIC))


def fit_square(pixels: Pixels, n: int) -> Pixels:
    """Return `pixels` [H, W, C] as [n, n, C]: short side resized to n (bicubic, antialiased), long side cropped."""
    height, width = pixels.shape[:2]
    if height == width == n:
        return pixels
    # Cropping through `box`, not afterwards: the short side of a 1 x 5000 strip at 512 would need 1.3 billion pixels.
    return _array(_image(pixels).resize((n, n), Image.Resampling.BICUBIC, box=_middle(height, width)))


def _middle(height: int, width: int) -> tuple[float, float, float, float]:
    """Return the largest square in the middle of an image: left, top, right, bottom."""
    side = min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def to_channels(pixels: Pixels, channels: Channels) -> Pixels:
    """Return `pixels` [H, W, C] with the channels asked for: as they are, 3 (`rgb`), or 1 (`grey`: ITU-R 601 luma)."""
    present = pixels.shape[2]
    if channels == "source" or present == (1 if channels == "grey" else 3):
        return pixels
    if channels == "rgb":
        return np.repeat(pixels, 3, axis=2)
    return _array(_image(pixels).convert("L"))


def _pixels(image: Image.Image, data: bytes, bit_depth: int | None) -> Pixels:
    """Return the decoded, upright pixels of an opened image, by the table in this module's docstring."""
    deep, scaled = is_16_bit(image), is_scaled(image)
    ready = decode_jpeg(data, len(image.mode)) if image.format == "JPEG" and image.mode in ("L", "RGB") else None
    if ready is None:
        mark_last_row(image)
        image.load()
        check_not_truncated(image, data)
    turn = _turn(image)
    if ready is not None:
        if turn is None and "icc_profile" not in image.info:
            return ready
        info, image = image.info, _image(ready)
        image.info = info
    if turn is not None:
        info = image.info
        image = image.transpose(turn)
        image.info = info
    mode = image.mode
    if mode == "I" or mode.startswith("I;16"):
        grey = from_integers(image, 16 if scaled else bit_depth)
        return grey if "icc_profile" not in image.info else _array(to_srgb(_image(grey), image.info["icc_profile"]))
    if deep:
        check_high_bytes(image, bit_depth)
    if mode not in ("L", "RGB") or "transparency" in image.info:
        image = _plain(image, deep)
    elif "icc_profile" in image.info:
        image = to_srgb(image, image.info["icc_profile"])
    array = _array(image)
    if array.size == 0:
        raise RowError("decode_failed", f"it is {image.width} x {image.height} pixels")
    return array


def _plain(image: Image.Image, deep: bool) -> Image.Image:
    """Return an 8-bit image as L or RGB, in sRGB. `deep`: its file has 16 bits a channel."""
    mode, profile = image.mode, image.info.get("icc_profile")
    if mode == "F":
        raise RowError("unsupported_mode", "its pixels are floats; store them as 8-bit or 16-bit whole numbers")
    clear = image.info.get("transparency")
    if deep and mode == "RGB" and isinstance(clear, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in clear)  # compared with the high bytes that were read
    if image.has_transparency_data:
        return _over_white(image, profile)
    if mode == "1":
        return image.convert("L")
    if mode == "CMYK":
        return to_srgb(image, profile).convert("RGB")
    if mode in ("P", "YCbCr", "LAB", "HSV", "RGBX"):
        return to_srgb(image.convert("RGB"), None if mode == "LAB" else profile)
    raise RowError("unsupported_mode", f"its pixels are of mode {mode}, which is neither grey nor colour")


def _over_white(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Return an image with transparency laid over white, as L or RGB."""
    grey = image.mode in ("1", "L", "LA", "La")
    image = image.convert("LA" if grey else "RGBA")
    plain = to_srgb(image.convert("L" if grey else "RGB"), profile)
    alpha = image.getchannel("A")
    if alpha.getextrema() == (255, 255):
        return plain
    white = Image.new(plain.mode, plain.size, "white")
    white.paste(plain, mask=alpha)
    return white


def _turn(image: Image.Image) -> Image.Transpose | None:
    """Return how to turn a loaded image upright; None if it is. Pillow has turned a TIFF already."""
    if image.format == "TIFF" or not any(holder in image.info for holder in _EXIF_HOLDERS):
        return None
    try:
        return _TURNS.get(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # a broken EXIF block says nothing about the pixels
        return None


def _array(image: Image.Image) -> Pixels:
    """Return an L or RGB image as [H, W, C] uint8, read-only."""
    array: Pixels = np.asarray(image)
    return array if array.ndim == 3 else array[:, :, None]


def _image(pixels: Pixels) -> Image.Image:
    """Return [H, W, C] uint8 as a Pillow image of mode L or RGB."""
    _check(pixels)
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def _check(pixels: Pixels) -> None:
    """Raise ValueError unless pixels are [H, W, C] uint8, C 1 or 3."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or 0 in pixels.shape:
        raise ValueError(f"pixels are {pixels.dtype} {pixels.shape}; they must be uint8 [H, W, 1] or [H, W, 3]")


def _reason(error: BaseException) -> str:
    """Return the text of an error on one line without memory addresses, so that it is the same in every run."""
    text = " ".join(re.sub(r" at 0x[0-9a-fA-F]+", "", str(error)).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _silence_pillow() -> None:
    """Ignore warnings from Pillow, whatever filters are set.

    Not `catch_warnings`: it saves and restores the filters of the whole process, which threads that decode at the same
    time would do in each other's way. Adding one narrow filter twice does no harm.
    """
    global _filter
    if _filter is None or warnings.filters[0] is not _filter:
        warnings.filterwarnings("ignore", module=r"PIL\.")
        _filter = warnings.filters[0]


_filter: object = None
