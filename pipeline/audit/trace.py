"""`trace`: find the row of an image by the mark in its pixels."""

import io
import os
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.audit.row_search import RowSearch, recorded_payload
from pipeline.contracts import Pixels
from pipeline.errors import InputError, RowError
from pipeline.plan import ORIGINAL
from pipeline.publishing.manifest import read_manifest
from pipeline.shards.images.codecs import decode
from pipeline.shards.output.store import Store
from pipeline.watermark.payload import keyed_digest, to_text
from pipeline.watermark.stdm import Stdm
from pipeline.watermark_key import key_id
from schemas.recipe import MAX_IMAGE_BYTES

MAX_ROWS = 100
"""Rows of one name that are read; a million rows have two of one name with a probability of 0.2 %."""


@dataclass(frozen=True)
class TraceResult:
    """What the mark of an image leads to.

    `rows` are all rows of the name that the mark holds, nearly always one; there are none where there is no mark, or
    none of this data set. `payload` is in the form that rows record. `score`
    is -log10 of the probability that an image without this mark reads as well by accident. It is no evidence against
    intent: whoever holds images with and without marks can copy and remove them. `other_key` is the id of the key that
    the data set was marked with, where it is not the given one.
    """

    payload: str | None
    score: float
    rows: tuple[dict[str, Any], ...] = ()
    other_key: str | None = None

    @property
    def row(self) -> dict[str, Any] | None:
        """The first of `rows`; None where there is none."""
        return self.rows[0] if self.rows else None


def read_image(image: str | os.PathLike[str] | bytes | Image.Image | Pixels) -> Pixels:
    """Return the pixels [H, W, C] uint8, C 1 or 3, of an image that was found.

    Args:
        image: a file, its bytes, a Pillow image, or the pixels themselves, [H, W] or [H, W, C].

    Raises:
        InputError: it is not an image that can be read.
    """
    if isinstance(image, np.ndarray):
        pixels: Pixels = image[:, :, None] if image.ndim == 2 else image
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3):
            raise InputError(f"the image is {image.dtype} {image.shape}: it must be uint8, [H, W], [H, W, 1 or 3]")
        return pixels
    name = os.fspath(image) if isinstance(image, str | os.PathLike) else "the image"
    try:
        return decode(_bytes_of(image), 2**31)
    except (OSError, RowError) as error:
        raise InputError(f"{name}: not an image that can be read: {error}") from None


def _bytes_of(image: str | os.PathLike[str] | bytes | Image.Image) -> bytes:
    """Return encoded bytes: those of a file, and a Pillow image without loss and with its colour profile."""
    if isinstance(image, Image.Image):
        out = io.BytesIO()
        image.save(out, "TIFF" if image.mode in ("CMYK", "YCbCr", "LAB") else "PNG", exif=image.getexif())
        return out.getvalue()
    if isinstance(image, bytes):
        return image
    with Path(image).open("rb") as file:
        data = file.read(MAX_IMAGE_BYTES + 1)  # a device never ends
    if len(data) > MAX_IMAGE_BYTES:
        raise RowError("too_large", f"more than {MAX_IMAGE_BYTES} bytes")
    return data


def trace_image(image: Pixels, store: Store, key: bytes) -> TraceResult:
    """Read the mark of an image [H, W, C] uint8 with the key it was made with, and find the rows of its name.

    Raises:
        InputError: the data set was not marked.
    """
    settings = read_manifest(store).watermark
    if settings is None:
        raise InputError(f"{store.uri}: this data set was made with `watermark: none`; its images cannot be traced")
    reader = Stdm(key, settings["psnr_db"])
    reading = reader.read_any(image)
    if settings["key_id"] != key_id(key):
        other = None if reading.payload is None else keyed_digest(key, reading.payload)
        return TraceResult(other, reading.score, (), settings["key_id"])
    search = RowSearch(store)
    if reading.payload is not None:
        return _traced(search, key, reading.payload, reading.score)
    word, score = reader.match(image, search.sample_ids(without=ORIGINAL), search.rows(without=ORIGINAL))
    if word is None:
        return TraceResult(None, max(score, reading.score))
    return _traced(search, key, word, score)


def _traced(search: RowSearch, key: bytes, word: int, score: float) -> TraceResult:
    recorded = (keyed_digest(key, word), to_text(word))
    rows = tuple(each.row for each in islice(search.by_payload(recorded), MAX_ROWS))
    return TraceResult((recorded_payload(rows[0]) if rows else None) or recorded[0], score, rows)
