"""`trace`: find the row of an image by the mark in its pixels."""

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from pipeline.contracts import Pixels
from pipeline.errors import InputError, RowError
from pipeline.publishing.manifest import read_manifest
from pipeline.shards.images.codecs import decode
from pipeline.shards.output.commit_log import CommitLog
from pipeline.shards.output.parquet_files import open_parquet
from pipeline.shards.output.store import Store
from pipeline.watermark.payload import keyed_digest, payload, to_text
from pipeline.watermark.stdm import Stdm
from pipeline.watermark_key import key_id
from schemas.recipe import MAX_IMAGE_BYTES

MADE = ("data", "rejected")


@dataclass(frozen=True)
class TraceResult:
    """What the mark of an image leads to.

    `row` is None where there is no mark, or none of this data set. `payload` is in the form that rows record. `score`
    is -log10 of the probability that an image without this mark reads as well by accident. It is no evidence against
    intent: whoever holds images with and without marks can copy and remove them. `other_key` is the id of the key that
    the data set was marked with, where it is not the given one.
    """

    payload: str | None
    score: float
    row: dict[str, Any] | None
    other_key: str | None = None


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
    """Read the mark of an image [H, W, C] uint8 with the key it was made with, and find its row.

    Raises:
        InputError: the data set was not marked.
    """
    settings = read_manifest(store).watermark
    if settings is None:
        raise InputError(f"{store.uri}: this data set was made with `watermark: none`; its images cannot be traced")
    reader = Stdm(key, settings["psnr_db"])
    reading = reader.read_any(image)
    if settings["key_id"] != key_id(key):
        word = None if reading.payload is None else keyed_digest(key, reading.payload)
        return TraceResult(word, reading.score, None, settings["key_id"])
    if reading.payload is not None:
        words = (keyed_digest(key, reading.payload), to_text(reading.payload))
        return _traced(words[0], reading.score, _row_of(store, "payload", words))
    known = sorted({name for _, _, marks in _marks(store) for name, word in marks if word})
    index, score = reader.match(image, [payload(key, name) for name in known])
    if index is None:
        return TraceResult(None, max(score, reading.score), None)
    word = keyed_digest(key, payload(key, known[index]))
    return _traced(word, score, _row_of(store, "sample", (known[index],)))


def _traced(word: str, score: float, row: dict[str, Any] | None) -> TraceResult:
    return TraceResult(word if row is None else row["watermarks"][0]["payload"], score, row)


def _marks(store: Store) -> Iterator[tuple[pq.ParquetFile, int, list[tuple[str, str]]]]:
    """Yield every row group of made images, with each row's sample id and recorded payload (empty without a mark)."""
    for marker in CommitLog(store).records():
        for folder in MADE:
            if folder not in marker.files:
                continue
            file = open_parquet(store.read(marker.files[folder].path))
            for group in range(file.num_row_groups):
                rows = file.read_row_group(group, columns=["sample_id", "watermarks"]).to_pylist()
                marks = [(row["sample_id"], row["watermarks"]) for row in rows]
                yield file, group, [(name, mark[0]["payload"] if mark else "") for name, mark in marks]


def _row_of(store: Store, by: str, wanted: tuple[str, ...]) -> dict[str, Any] | None:
    for file, group, marks in _marks(store):
        for place, (sample, word) in enumerate(marks):
            if (sample if by == "sample" else word) in wanted:
                row: dict[str, Any] = file.read_row_group(group).slice(place, 1).to_pylist()[0]
                return row
    return None
