"""Read source rows: a range of one shard, window by window, with memory for one window and a few Parquet pages."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import InputError, RowError, UnitError
from pipeline.shards.footers import read_footer
from pipeline.shards.layout import Layout
from pipeline.shards.locate import Shard
from pipeline.shards.uris import absolute, is_local, open_binary

_BATCH_ROWS: Final = 64  # also keeps a batch of images of 30 MB below Arrow's 2 GiB a binary array
_BUFFER_BYTES: Final = 4 << 20  # read a column chunk in pieces: a whole one can be as large as the shard
_THREADS: Final = 8


@dataclass
class SourceRow:
    """One source row. `row` is its index in the shard, `uri` the shard's.

    `data` are the encoded image's bytes, untouched; None together with `error` where there are none to be had.
    `label` is an int, str, bool or None as stored; `light` are the values of the layout's light columns.
    """

    row: int
    uri: str
    data: bytes | None
    error: RowError | None
    id: str | None
    label: Any
    light: dict[str, Any]


def class_index(label: Any) -> int:
    """Return a stored label as a class index; -1 where it is none."""
    return int(label) if isinstance(label, int) else -1


def read_windows(
    shard: Shard, layout: Layout, first: int, rows: int, window: int
) -> Iterator[tuple[pa.Table, list[SourceRow]]]:
    """Yield rows [first, first + rows) of a shard in windows of `window` rows (the last may be shorter).

    Each is a table of the input columns in the order of `layout.schema`, and its rows. Only row groups that overlap are
    read, in pieces. An image that is stored as a path is opened relative to the shard's folder, or as an absolute path
    or URI. Row errors: `null_image` (neither bytes nor a path), `missing_image` (a path that cannot be opened).

    Raises:
        UnitError: the shard cannot be opened, has changed since the plan, is corrupt (the message names the row group),
            or a remote image store failed.
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
                    yield _window(shard, layout, held, start)
                    held, count, start = [], 0, start + window
        if held:
            yield _window(shard, layout, held, start)


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
    shard: Shard, layout: Layout, batches: list[pa.RecordBatch], start: int
) -> tuple[pa.Table, list[SourceRow]]:
    """Return the table of some batches in the layout's columns, and its rows."""
    found = pa.Table.from_batches(batches)
    table = pa.table([found.column(name) for name in layout.schema.names], schema=layout.schema)
    images = _images(table.column(layout.image), layout, shard)
    light = {name: table.column(name).to_pylist() for name in layout.light}
    ids = table.column(layout.id).to_pylist() if layout.id else [None] * len(table)
    labels = table.column(layout.label).to_pylist() if layout.label else [None] * len(table)
    return table, [
        SourceRow(
            row=start + i,
            uri=shard.uri,
            data=None if isinstance(image, RowError) else image,
            error=image if isinstance(image, RowError) else None,
            id=None if ids[i] is None else str(ids[i]),
            label=labels[i],
            light={name: values[i] for name, values in light.items()},
        )
        for i, image in enumerate(images)
    ]


def _images(column: pa.ChunkedArray, layout: Layout, shard: Shard) -> list[bytes | RowError]:
    """Return the encoded bytes of each row, or why there are none."""
    data: list[bytes | None] = [None] * len(column)
    paths: list[str | None] = [None] * len(column)
    if layout.image_kind == "path":
        paths = column.to_pylist()
    elif layout.image_kind == "bytes":
        data = column.to_pylist()
    else:
        data = pc.struct_field(column, "bytes").to_pylist()
        if None in data and column.type.get_field_index("path") >= 0:
            paths = pc.struct_field(column, "path").to_pylist()
    folder = shard.uri.rpartition("/")[0]
    wanted = [i for i, (found, path) in enumerate(zip(data, paths, strict=True)) if found is None and path]
    opened = dict(zip(wanted, _open_all([absolute(paths[i] or "", folder) for i in wanted]), strict=True))
    null = RowError("null_image", f"column {layout.image!r} is null, or holds neither bytes nor a path")
    return [opened.get(i, null) if found is None else found for i, found in enumerate(data)]


def _open_all(uris: list[str]) -> list[bytes | RowError]:
    """Return the bytes of each file, in order; remote ones are fetched a few at a time."""
    if all(is_local(uri) for uri in uris):
        return [_open_image(uri) for uri in uris]
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(_open_image, uris))


def _open_image(uri: str) -> bytes | RowError:
    """Return the bytes of one image file, or why it cannot be opened. Raises UnitError where its store failed."""
    try:
        with open_binary(uri) as stream:
            return stream.read()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
        return RowError("missing_image", f"{uri}: {error.strerror or type(error).__name__}")
    except InputError as error:
        return RowError("missing_image", str(error))
    except Exception as error:
        if is_local(uri):
            return RowError("missing_image", f"{uri}: {type(error).__name__}: {error}")
        raise UnitError(f"{uri}: cannot be fetched: {type(error).__name__}: {error}") from error
