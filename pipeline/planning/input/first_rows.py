"""The first rows of the input, which `plan` checks: their values, and the headers of their images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
from PIL import Image

from pipeline.errors import InputError, RowError, UnitError
from pipeline.shards.columns.column_types import storage
from pipeline.shards.columns.layout import Layout
from pipeline.shards.files.discovery import Shard
from pipeline.shards.images.bit_depth import is_16_bit
from pipeline.shards.images.codecs import decode
from pipeline.shards.images.formats import open_image
from pipeline.shards.links.linked_images import ImageLinks
from pipeline.shards.reader import SourceRow, read_windows

TRIED_ROWS = 8
"""Number of source rows that are checked before anything runs."""


@dataclass(frozen=True)
class FirstRows:
    """The first rows of the first readable shard, read on first use. Shards that cannot be read are skipped here."""

    shards: tuple[Shard, ...]
    layout: Layout
    max_pixels: int
    links: ImageLinks | None = None  # what images that rows name may be opened; None: none are

    @cached_property
    def _window(self) -> tuple[pa.Table | None, list[SourceRow]]:
        for shard in self.shards:
            try:
                rows = min(shard.rows, TRIED_ROWS)
                for window in read_windows(shard, self.layout, 0, rows, TRIED_ROWS, self.links):
                    return window
            except UnitError:
                if self.links is not None:  # retries of a busy server are left to the run, too
                    break
        return None, []

    @property
    def rows(self) -> list[SourceRow]:
        return self._window[1]

    @cached_property
    def values(self) -> Mapping[str, Sequence[Any]]:
        """The values of each column, without the image and columns that Python cannot hold."""
        table = self._window[0]
        if table is None:
            return {}
        columns = {name: table.column(name) for name in table.column_names if name != self.layout.image}
        found = {name: _values(column) for name, column in columns.items()}
        return {name: values for name, values in found.items() if values is not None}

    @cached_property
    def images(self) -> list[Image.Image | None]:
        """The image of each row with only its header read; None if that fails."""
        return [_header(row, self.max_pixels) for row in self.rows]

    @property
    def sizes(self) -> list[tuple[int, int] | None]:
        """Width and height of each image as stored; None if unknown."""
        return [None if image is None else image.size for image in self.images]

    def check_bit_depth(self, bit_depth: int | None) -> None:
        """Raise InputError if it is unknown how many bits a 16-bit image uses; decodes only such images."""
        for row, image in zip(self.rows, self.images, strict=True):
            if row.data is None or image is None or not (image.mode.startswith("I") or is_16_bit(image)):
                continue
            try:
                decode(row.data, self.max_pixels, bit_depth)
            except RowError as error:
                if error.code in ("ambiguous_depth", "depth_exceeded"):
                    raise InputError(f"input.bit_depth: {row.uri} row {row.row}: {error.message}") from None


def _values(column: pa.ChunkedArray) -> list[Any] | None:
    if isinstance(column.type, pa.BaseExtensionType):  # a package that registers one says what Python gets of it
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], storage(column.type))
    try:
        return list(column.to_pylist())
    except (ValueError, OverflowError, pa.ArrowException):  # text that is no UTF-8, a time beyond the year 9999
        return None


def _header(row: SourceRow, max_pixels: int) -> Image.Image | None:
    try:
        return open_image(row.data, max_pixels) if row.data else None
    except Exception:  # Pillow's plugins raise anything at all on broken bytes, and the run says so
        return None
