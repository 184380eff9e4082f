"""Colour profiles put together by hand, of numbers that a test can work out for itself."""

import struct
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

D50 = (0.9642, 1.0, 0.8249)
SRGB_D50 = np.array([[0.4361, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7141]])
WIDE_D50 = np.array([[0.6097, 0.2053, 0.1492], [0.3111, 0.6257, 0.0632], [0.0195, 0.0609, 0.7446]])
"""Colorants of sRGB and of a wide gamut (the numbers of Adobe RGB 1998), rows X, Y, Z."""


def rgb_profile(colorants: npt.NDArray[np.float64] = WIDE_D50, gamma: float = 2.2) -> bytes:
    """Return a profile of three colorants [3, 3] (columns red, green, blue) and one gamma."""
    columns = {name + b"XYZ": _xyz(colorants[:, place]) for place, name in enumerate((b"r", b"g", b"b"))}
    return _profile(b"RGB ", b"XYZ ", {**columns, **{name + b"TRC": _gamma(gamma) for name in (b"r", b"g", b"b")}})


def grey_profile(gamma: float = 1.0) -> bytes:
    """Return a profile of grey with one gamma."""
    return _profile(b"GRAY", b"XYZ ", {b"kTRC": _gamma(gamma)})


def cmyk_profile(lightness: Sequence[float]) -> bytes:
    """Return a profile of four inks that shows every corner of their cube as a grey of L* 0 to 100, 16 in all."""
    curve = bytes(range(256))
    table = b"".join(bytes((round(value * 2.55), 128, 128)) for value in lightness)
    identity = struct.pack(">9i", *(65_536 * (place % 4 == 0) for place in range(9)))
    lut = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + identity + curve * 4 + table + curve * 3
    return _profile(b"CMYK", b"Lab ", {b"A2B0": lut}, b"prtr")


def shown_as(levels: npt.ArrayLike, colorants: npt.NDArray[np.float64] = WIDE_D50, gamma: float = 2.2) -> npt.NDArray:
    """Return what sRGB shows levels [N, 3] of `rgb_profile` as, unrounded."""
    light = (np.asarray(levels) / 255.0) ** gamma
    linear = np.clip(light @ (np.linalg.inv(SRGB_D50) @ colorants).T, 0, 1)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055) * 255


def _xyz(values: Sequence[float]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65_536) for value in values))


def _gamma(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"


def _profile(space: bytes, pcs: bytes, tags: dict[bytes, bytes], kind: bytes = b"mntr") -> bytes:
    text = b"test\0"
    tags = {b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78), b"wtpt": _xyz(D50), **tags}
    table, body, at = b"", b"", 128 + 4 + 12 * len(tags)
    for name, value in tags.items():
        table += name + struct.pack(">II", at + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    whole = struct.pack(">I", len(tags)) + table + body
    head = struct.pack(
        ">I4sI4s4s4s12s4s", 128 + len(whole), b"\0\0\0\0", 0x02100000, kind, space, pcs, bytes(12), b"acsp"
    )
    head += bytes(28) + struct.pack(">3i", *(round(value * 65_536) for value in D50))
    return head + bytes(128 - len(head)) + whole
