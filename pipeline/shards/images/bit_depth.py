"""Images of more than 8 bits a channel: how many bits they use, and their conversion to 8 bits.

Cameras and scanners store 10, 12 or 14 bits in 16-bit files whose header does not tell; read as 16 bits, such an image
is black. So an image whose values stay below 4,096 (and are not all 0) is an error unless `input.bit_depth` is set.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.contracts import Pixels
from pipeline.errors import RowError

MAX_VALUE: Final = 65_535
MIN_SURE: Final = 4096
"""A value from here on needs at least 13 bits."""

_DEEP: Final = ("PNG", "TIFF", "PPM", "ICO")  # formats that can hold 16 bits

ASK: Final = (
    "say how many bits the images use with input.bit_depth (8 to 16; 16 where they are meant to be as dark as that)"
)


def from_integers(image: Image.Image, bit_depth: int | None) -> Pixels:
    """Return a grey integer image as [H, W, 1] uint8, its transparent value as white.

    Args:
        image: of mode `I` or `I;16`, loaded.
        bit_depth: bits that the values use, 8 to 16: 2 ** bits - 1 becomes 255. None: 16 if the values show it.

    Raises:
        RowError: `unsupported_mode` (values below 0 or beyond 65,535), `ambiguous_depth` (no value reaches 4,096, and
            nobody says how many bits they are of), `depth_exceeded` (a value is of more than `bit_depth`).
    """
    values: npt.NDArray[np.int64] = np.asarray(image).astype(np.int64)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > MAX_VALUE:
        raise RowError("unsupported_mode", f"its values run from {low} to {high}; 16-bit grey is 0 to 65535")
    clear = image.info.get("transparency")
    hidden = values == clear if isinstance(clear, int) else None
    if hidden is not None and hidden.any():
        seen = values[~hidden]
        high = int(seen.max()) if seen.size else 0
    if bit_depth is None and 0 < high < MIN_SURE:
        raise RowError("ambiguous_depth", f"its 16-bit values reach only {high} of 65535; {ASK}")
    white = 2 ** (bit_depth or 16) - 1
    if high > white:
        raise RowError("depth_exceeded", f"its values reach {high}, and input.bit_depth: {bit_depth} ends at {white}")
    if hidden is not None:
        values = np.where(hidden, white, values)
    array: Pixels = ((values * 510 + white) // (2 * white)).astype(np.uint8)[:, :, None]
    array.flags.writeable = False
    return array


def check_high_bytes(image: Image.Image, bit_depth: int | None) -> None:
    """Refuse a 16-bit image of several channels that would be black, since Pillow reads only its high bytes.

    Raises:
        RowError: `ambiguous_depth`, as above; `unsupported_mode` where `bit_depth` is below 16.
    """
    if bit_depth is not None and bit_depth < 16:
        message = f"it is 16-bit colour, of which {bit_depth} bits cannot be read; store it with 8 bits or all 16"
        raise RowError("unsupported_mode", message)
    if bit_depth is None:
        channels = image.getbands()[:3] if image.mode.startswith("RGB") else image.getbands()[:1]
        brightest = int(max(np.asarray(image.getchannel(channel)).max(initial=0) for channel in channels))
        if 0 < brightest < MIN_SURE >> 8:
            raise RowError("ambiguous_depth", f"its 16-bit values reach only {brightest * 256 + 255} of 65535; {ASK}")


def is_16_bit(image: Image.Image) -> bool:
    """Return whether an opened image, not loaded yet, has 16 bits a channel."""
    return image.format in _DEEP and any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def is_scaled(image: Image.Image) -> bool:
    """Return whether the file states its largest value, as PPM does, so that Pillow scales to it."""
    return image.format == "PPM" and any(tile[0] == "ppm" for tile in getattr(image, "tile", ()))
