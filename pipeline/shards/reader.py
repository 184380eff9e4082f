"""Read source rows: a range of one shard, window by window, with memory for one window and a few Parquet pages."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import InputError, RowError, UnitError
from pipeline.shards.footers import read_footer
from pipeline.shards.layout import Layout
from pipeline.shards.linked_images import ImageLinks
from pipeline.shards.locate import Shard
from pipeline.shards.uris import open_binary

_BATCH_ROWS: Final = 64  # also keeps a batch of images of 30 MB below Arrow's 2 GiB a binary array
_BUFFER_BYTES: Final = 4 << 20  # read a column chunk in pieces: a whole one can be as large as the shard


@dataclass
class SourceRow:
    """One source row. `row` is its index in the shard, `uri` the shard's.

    `data` are the encoded image's bytes, untouched; None together with `error` where there are none to be had.
    `link` is the path or URL that the row names instead of holding bytes.
    `label` is what is stored, of any type where the recipe says `label: none`; `light` are the values of the layout's
    light columns.
    """

    row: int
    uri: str
    data: bytes | None
    error: RowError | None
    id: str | None
    label: Any
    light: dict[str, Any]
    link: str | None = None


def read_windows(
    shard: Shard, layout: Layout, first: int, rows: int, window: int, links: ImageLinks | None = None
) -> Iterator[tuple[pa.Table, list[SourceRow]]]:
    """Yield rows [first, first + rows) of a shard in windows of `window` rows (the last may be shorter).

    Each is a table of the input columns in the order of `layout.schema`, and its rows. Only row groups that overlap are
    read, in pieces. An image that a row names instead of holding is opened as far as `links` allow; without them it is
    not, and the row has neither data nor an error. Row errors: `null_image` (neither bytes nor a name), and those of
    `linked_images`.

    Raises:
        UnitError: the shard cannot be opened, has changed since the plan, is corrupt (the message names the row group),
            or what holds a named image failed.
        ValueError: the range is not within the shard, or `window` is below 1.
    """
    if first < 0 or rows < 0 or first + rows > shard.rows or window < 1:
        raise ValueError(f"rows {first} to {first + rows} in windows of {window}: {shard.uri} has {shard.rows} rows")
    if rows == 0:
        return
    try:
        stream = open_binary(shard.uri)
    except OSError as error:
        raise UnitError(f"{shard.uri}: cannot be opened: {error}") from error
    with stream:
        held: list[pa.RecordBatch] = []
        count, start = 0, first
        for batch in _batches(_open(stream, shard), shard, layout, first, rows):
            while batch.num_rows:
                part = batch.slice(0, window - count)
                batch = batch.slice(part.num_rows)
                held.append(part)
                count += part.num_rows
                if count == window:
                    yield _window(shard, layout, held, start, links)
                    held, count, start = [], 0, start + window
        if held:
            yield _window(shard, layout, held, start, links)


def _open(stream: BinaryIO, shard: Shard) -> pq.ParquetFile:
    """Open a shard, having made sure that it is the one the plan saw."""

    def read(start: int, end: int) -> bytes:
        stream.seek(start)
        return stream.read(end - start)

    try:
        footer = read_footer(read, stream.seek(0, 2), shard.uri)
    except InputError as error:
        raise UnitError(str(error)) from error
    except Exception as error:  # every object store brings its own errors
        raise UnitError(f"{shard.uri}: cannot be read: {type(error).__name__}: {error}") from error
    if footer.digest != shard.digest:
        raise UnitError(f"{shard.uri}: the file has changed since the plan was made; plan and run again")
    return pq.ParquetFile(
        stream,
        metadata=footer.metadata,
        buffer_size=_BUFFER_BYTES,
        pre_buffer=False,
        page_checksum_verification=True,
    )


def _batches(file: pq.ParquetFile, shard: Shard, layout: Layout, first: int, rows: int) -> Iterator[pa.RecordBatch]:
    """Yield the rows [first, first + rows) in batches that never cross a row group."""
    group_start = 0
    for group, group_rows in enumerate(shard.group_rows):
        skip = max(first - group_start, 0)
        take = min(first + rows - group_start, group_rows) - skip
        group_start += group_rows
        if take <= 0:
            continue
        try:
            for batch in file.iter_batches(
                _BATCH_ROWS, row_groups=[group], columns=layout.schema.names, use_threads=False
            ):
                part = batch.slice(skip, take)
                skip = max(skip - batch.num_rows, 0)
                take -= part.num_rows
                if part.num_rows:
                    yield part
                if take == 0:
                    break
        except (pa.ArrowException, OSError, ValueError) as error:
            text = " ".join(str(error).split())
            raise UnitError(f"{shard.uri}: row group {group} cannot be read: {type(error).__name__}: {text}") from error
        if take > 0:
            raise UnitError(f"{shard.uri}: row group {group} is {take} rows shorter than its footer says")


def _window(
    shard: Shard, layout: Layout, batches: list[pa.RecordBatch], start: int, links: ImageLinks | None
) -> tuple[pa.Table, list[SourceRow]]:
    """Return the table of some batches in the layout's columns, and its rows."""
    found = pa.Table.from_batches(batches)
    table = pa.table([found.column(name) for name in layout.schema.names], schema=layout.schema)
    held, names = _images(table.column(layout.image), layout)
    images = _opened(held, names, layout, shard, links)
    light = {name: table.column(name).to_pylist() for name in layout.light}
    ids = table.column(layout.id).to_pylist() if layout.id else [None] * len(table)
    label = layout.carried_label
    labels = table.column(label).to_pylist() if label else [None] * len(table)
    return table, [
        SourceRow(
            row=start + i,
            uri=shard.uri,
            data=None if isinstance(image, RowError) else image,
            error=image if isinstance(image, RowError) else None,
            id=None if ids[i] is None else str(ids[i]),
            label=labels[i],
            light={name: values[i] for name, values in light.items()},
            link=names[i],
        )
        for i, image in enumerate(images)
    ]


def _images(column: pa.ChunkedArray, layout: Layout) -> tuple[list[bytes | None], list[str | None]]:
    """Return the encoded bytes of each row, and the name that it holds instead."""
    none: list[Any] = [None] * len(column)
    if layout.image_kind == "path":
        return none, [name or None for name in column.to_pylist()]
    if layout.image_kind == "bytes":
        return column.to_pylist(), none
    data = pc.struct_field(column, "bytes").to_pylist()
    if None not in data or column.type.get_field_index("path") < 0:
        return data, none
    names = pc.struct_field(column, "path").to_pylist()
    return data, [name or None if held is None else None for held, name in zip(data, names, strict=True)]


def _opened(
    data: list[bytes | None], names: list[str | None], layout: Layout, shard: Shard, links: ImageLinks | None
) -> list[bytes | RowError | None]:
    """Return each row's bytes, those of named files as well, or why there are none; None where none are opened."""
    null = RowError("null_image", f"column {layout.image!r} is null, or holds neither bytes nor a path")
    found: list[bytes | RowError | None] = [
        null if held is None and name is None else held for held, name in zip(data, names, strict=True)
    ]
    wanted = [] if links is None else [(place, name) for place, name in enumerate(names) if name is not None]
    if links is not None and wanted:
        opened = links.read_all([name for _, name in wanted], folder_of(shard))
        for (place, _), image in zip(wanted, opened, strict=True):
            found[place] = image
    return found


def folder_of(shard: Shard) -> str:
    """Return the folder that a shard lies in: names in its rows start there."""
    return shard.uri.rpartition("/")[0] or "/"
