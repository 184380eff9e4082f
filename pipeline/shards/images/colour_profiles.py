"""Embedded colour profiles: pixels are converted to sRGB when an image is decoded, by LittleCMS.

    profile                                     what happens
    ──────────────────────────────────────────  ────────────────────────────────────────────────────────────────────
    sRGB, whatever it is called                 nothing: a profile that moves no probe colour by more than one level
    of RGB, for RGB, palette and alpha          RGB converted; perceptual intent
    of CMYK, for CMYK                           converted from the four inks; CMYK without one by Pillow's own formula
    of grey, for grey                           its 256 levels by the grey that sRGB shows them as; still one channel
    damaged, or of other channels               left out of account, like an EXIF block that cannot be read

The same profiles occur in many rows, so a conversion is built once and cached by the bytes of its profile.
"""

import functools
import io
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image, ImageCms

_SPACES: Final = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}
_INTENT: Final = ImageCms.Intent.PERCEPTUAL


@dataclass(frozen=True)
class _Conversion:
    """The conversion of images of one mode: a table of grey levels, or a transform to RGB."""

    levels: tuple[int, ...] | None = None
    transform: ImageCms.ImageCmsTransform | None = None


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Return an image of mode L, RGB or CMYK in sRGB: L as L, the others as RGB; unchanged if it is sRGB already."""
    if not profile or image.mode not in _SPACES:
        return image
    conversion = _conversion(profile, image.mode)
    if conversion is None:
        return image
    if conversion.levels is not None:
        return image.point(conversion.levels)
    assert conversion.transform is not None
    converted = ImageCms.applyTransform(image, conversion.transform)
    assert converted is not None
    return converted


@functools.lru_cache(maxsize=64)
def _conversion(profile: bytes, mode: str) -> _Conversion | None:
    """Return the conversion of a profile; None if it changes nothing, is damaged, or is for other channels."""
    try:
        opened = ImageCms.getOpenProfile(io.BytesIO(profile))
        if opened.profile.xcolor_space.strip() != _SPACES[mode]:
            return None
        # Optimised, LittleCMS 2.19 interpolates grey between 33 levels: up to 10 levels off in the shadows of gamma 1.
        flags = ImageCms.Flags.NOOPTIMIZE if mode == "L" else ImageCms.Flags.NONE
        transform = ImageCms.buildTransform(opened, ImageCms.createProfile("sRGB"), mode, "RGB", _INTENT, flags)
        probe = _probe(mode)
        seen = np.asarray(ImageCms.applyTransform(probe, transform)).astype(np.int16)
    except Exception:  # a damaged profile says nothing about the pixels; LittleCMS raises several kinds
        return None
    if mode == "CMYK":
        return _Conversion(transform=transform)
    plain = np.asarray(probe.convert("RGB")).astype(np.int16)
    if np.abs(seen - plain).max() <= 1:
        return None
    return _Conversion(levels=tuple(seen[0, :, 1].tolist())) if mode == "L" else _Conversion(transform=transform)


@functools.cache
def _probe(mode: str) -> Image.Image:
    """Return an image of test colours for a profile: every grey, or nine levels of each channel combined."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    levels = np.linspace(0, 255, 9).astype(np.uint8)
    lattice = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=3).reshape(1, -1, 3)
    image = Image.fromarray(lattice)
    return image if mode == "RGB" else image.convert(mode)
