"""`trace`: from an image file found anywhere to the row it came from, by the mark it carries."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from pipeline.contracts import Pixels
from pipeline.errors import InputError
from pipeline.keys import key_id
from pipeline.publish import read_manifest
from pipeline.shards.commit import open_parquet, read_markers
from pipeline.shards.store import Store
from pipeline.watermark.payload import from_text, to_text
from pipeline.watermark.stdm import Stdm

MADE = ("data", "rejected")


@dataclass(frozen=True)
class Traced:
    """What a mark led to. `row` is None where there is no mark, or none of this data set; `score` is its evidence.

    `score` is -log10 of the probability that an image without this mark reads as well. `other_key` is the id of the key
    that the data set was marked with, where it is not the one given.
    """

    payload: str | None
    score: float
    row: dict[str, Any] | None
    other_key: str | None = None


def trace_image(image: Pixels, store: Store, key: bytes) -> Traced:
    """Read the mark of an image [H, W, C] uint8 and find its row. Under another key there is no mark to be read.

    Raises:
        InputError: the data set was not marked.
    """
    settings = read_manifest(store).watermark
    if settings is None:
        raise InputError(f"{store.uri}: this data set was made with `watermark: none`; its images cannot be traced")
    reader = Stdm(key, settings["psnr_db"])
    reading = reader.read_any(image)
    if settings["key_id"] != key_id(key):
        word = None if reading.payload is None else to_text(reading.payload)
        return Traced(word, reading.score, None, settings["key_id"])
    if reading.payload is not None:
        word = to_text(reading.payload)
        return Traced(word, reading.score, _row_of(store, word))
    known = sorted({word for _, _, words in _payloads(store) for word in words if word})
    index, score = reader.match(image, [from_text(word) for word in known])
    if index is None:
        return Traced(None, max(score, reading.score), None)
    return Traced(known[index], score, _row_of(store, known[index]))


def _payloads(store: Store) -> Iterator[tuple[pq.ParquetFile, int, list[str]]]:
    """Yield every row group of made images with the payload of each of its rows; empty where it has none."""
    for marker in read_markers(store).values():
        for folder in MADE:
            if folder not in marker.files:
                continue
            file = open_parquet(store.read(marker.files[folder].path))
            for group in range(file.num_row_groups):
                marks = file.read_row_group(group, columns=["watermarks"]).column(0).to_pylist()
                yield file, group, [mark[0]["payload"] if mark else "" for mark in marks]


def _row_of(store: Store, word: str) -> dict[str, Any] | None:
    for file, group, words in _payloads(store):
        if word in words:
            row: dict[str, Any] = file.read_row_group(group).slice(words.index(word), 1).to_pylist()[0]
            return row
    return None
