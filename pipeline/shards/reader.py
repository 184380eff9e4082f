"""Reading source rows: a range of one shard, window by window, in the memory of one window and a few Parquet pages."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import InputError, RowError, UnitError
from pipeline.shards.columns.column_types import is_list
from pipeline.shards.columns.layout import Layout
from pipeline.shards.columns.python_values import python_values
from pipeline.shards.columns.type_promotion import cast
from pipeline.shards.cursor import CursorCache
from pipeline.shards.files.discovery import Shard
from pipeline.shards.files.partitions import partition_column
from pipeline.shards.identity import changed_columns, column_digests, read_file_version
from pipeline.shards.images.text_images import image_in_bytes, image_in_text
from pipeline.shards.links.linked_images import ImageLinks, folder_of


@dataclass
class SourceRow:
    """One source row. `row` is its index in the shard, `uri` the shard's.

    `data` are the bytes of the encoded image (base64 text is decoded); None, with `error`, if there are none.
    `link` is the path or URL of the image, if the row holds that instead of bytes.
    `label` is the stored value, of any type if the recipe says `label: none`; `light` are the values of the light
    columns by name.
    """

    row: int
    uri: str
    data: bytes | None
    error: RowError | None
    id: str | None
    label: Any
    light: dict[str, Any]
    link: str | None = None


@dataclass(frozen=True)
class Bound:
    """What the rows of a window may weigh together; a single row may weigh more.

    `weigh` is a function of the row alone, so that windows are one of the rows read.
    """

    limit: int
    weigh: Callable[[SourceRow], int]


def read_windows(
    shard: Shard,
    layout: Layout,
    first: int,
    rows: int,
    window: int,
    links: ImageLinks | None = None,
    cursor_cache: CursorCache | None = None,
    bound: Bound | None = None,
) -> Iterator[tuple[pa.Table, list[SourceRow]]]:
    """Yield rows [first, first + rows) of a shard in windows of `window` rows (the last may be shorter).

    A window ends before the row that would take it beyond `bound`, too.

    Each is a table of the input columns as `layout.schema` has them, and its rows: a column that the shard's folder
    states is filled with that, one that the shard lacks is null. Only row groups that overlap are read, in pieces. An
    image that a row names instead of holding is opened as far as `links` allow; without them it is
    not, and the row has neither data nor an error. Row errors: `null_image` (neither bytes nor a name),
    `several_images` (a list of them), and those of `linked_images`.

    Args:
        cursor_cache: keeps the shard open between ranges of one worker.

    Raises:
        UnitError: the shard cannot be opened, has changed since the plan, is corrupt (the message names the row group),
            or the storage of a linked image failed.
        ValueError: the range is not within the shard, or `window` is below 1.
    """
    if first < 0 or rows < 0 or first + rows > shard.rows or window < 1:
        raise ValueError(f"rows {first} to {first + rows} in windows of {window}: {shard.uri} has {shard.rows} rows")
    if rows == 0:
        return
    with contextlib.ExitStack() as stack:
        if cursor_cache is None:
            cursor_cache = CursorCache()
            stack.callback(cursor_cache.close)
        cursor = stack.enter_context(cursor_cache.at(shard, layout.schema.names))
        if not cursor.has_known_columns:
            _check_columns(shard, layout)
            cursor.has_known_columns = True
        yield from _windows(_pieces(shard, layout, cursor.read(first, rows), first, links), window, bound)


def _pieces(
    shard: Shard, layout: Layout, batches: Iterator[pa.RecordBatch], start: int, links: ImageLinks | None
) -> Iterator[tuple[pa.Table, list[SourceRow]]]:
    for batch in batches:
        yield _window(shard, layout, batch, start, links)
        start += batch.num_rows


def _windows(
    pieces: Iterator[tuple[pa.Table, list[SourceRow]]], window: int, bound: Bound | None
) -> Iterator[tuple[pa.Table, list[SourceRow]]]:
    """Yield the rows of `pieces` in windows; no piece is kept beyond the window that it ends in."""
    tables: list[pa.Table] = []
    held: list[SourceRow] = []
    weight = 0
    for table, rows in pieces:
        begin = 0
        for place, row in enumerate(rows):
            own = bound.weigh(row) if bound else 0
            if len(held) == window or (held and bound and weight + own > bound.limit):
                tables.append(table.slice(begin, place - begin))
                yield _joined(tables), held
                tables, held, weight, begin = [], [], 0, place
            held.append(row)
            weight += own
        tables.append(table.slice(begin) if begin else table)
        del table, rows
        if len(held) == window:
            yield _joined(tables), held
            tables, held, weight = [], [], 0
    if held:
        yield _joined(tables), held


def _joined(tables: list[pa.Table]) -> pa.Table:
    return tables[0] if len(tables) == 1 else pa.concat_tables(tables)


def _check_columns(shard: Shard, layout: Layout) -> None:
    """Raise UnitError if a column has changed since the plan. Reads the file only if its version has changed."""
    if not shard.columns:
        return
    file_version = read_file_version(shard.uri) if shard.file_version else ""
    if file_version and file_version == shard.file_version:
        return
    try:
        now = column_digests(shard, layout, file_version)
    except InputError as error:
        raise UnitError(str(error)) from error
    if names := changed_columns(shard.columns, now):
        raise UnitError(
            f"{shard.uri}: column {', '.join(names)} has changed since the plan was made; plan and run again"
        )


def _window(
    shard: Shard, layout: Layout, batch: pa.RecordBatch, start: int, links: ImageLinks | None
) -> tuple[pa.Table, list[SourceRow]]:
    """Return the table of a batch in the layout's columns, and its rows."""
    table = _as_laid_out(pa.Table.from_batches([batch]), shard, layout)
    held, names = _images(table.column(layout.image), layout, shard.uri)
    images = _opened(held, names, layout, shard, links)
    light = {name: _values(table, name, layout, shard) for name in layout.light}
    ids = _values(table, layout.id, layout, shard) if layout.id else [None] * len(table)
    label = layout.carried_label
    labels = _values(table, label, layout, shard) if label else [None] * len(table)
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


def _values(table: pa.Table, name: str, layout: Layout, shard: Shard) -> list[Any]:
    """Return the values of a column. Raises UnitError if Python cannot hold one."""
    return python_values(table.column(name), name, shard.uri, name in (layout.image, layout.carried_label))


def _as_laid_out(found: pa.Table, shard: Shard, layout: Layout) -> pa.Table:
    """Return the rows of a shard in the columns, and the types, that all shards of the input share."""
    stated, there = dict(shard.partitions), set(found.column_names)
    columns = []
    for field in layout.schema:
        if field.name in there:
            try:
                columns.append(cast(found.column(field.name), field.type))
            except pa.ArrowException as error:
                raise UnitError(f"{shard.uri}: column {field.name!r} cannot become {field.type}: {error}") from error
        else:
            columns.append(partition_column(stated.get(field.name), field.type, len(found)))
    return pa.table(columns, schema=layout.schema)


def _images(
    column: pa.ChunkedArray, layout: Layout, where: str
) -> tuple[list[bytes | RowError | None], list[str | None]]:
    """Return the encoded bytes of each row (base64 text decoded), and the path or URL of each that has one instead."""
    none: list[Any] = [None] * len(column)
    errors: dict[int, RowError] = {}
    if is_list(column.type):
        column, errors = _singles(column, layout.image, where)
    names: list[str | None] = none
    if layout.image_kind in ("path", "text"):
        texts = python_values(column, layout.image, where, kept=True)
        data: list[bytes | RowError | None] = [image_in_text(text) if text else None for text in texts]
        if layout.image_kind == "text":  # never opened: what is no image stays as it is, and cannot be decoded
            data = [text.encode() if held is None and text else held for text, held in zip(texts, data, strict=True)]
        else:
            names = [(text or None) if held is None else None for text, held in zip(texts, data, strict=True)]
        return [errors.get(row, held) for row, held in enumerate(data)], names
    if layout.image_kind == "bytes":
        stored = column.to_pylist()
    else:
        stored = python_values(pc.struct_field(column, "bytes"), layout.image, where, kept=True)
        if None in stored and column.type.get_field_index("path") >= 0:
            paths = python_values(pc.struct_field(column, "path"), layout.image, where, kept=True)
            stored = [
                image_in_text(path) if held is None and path else held for held, path in zip(stored, paths, strict=True)
            ]
            names = [name or None if held is None else None for held, name in zip(stored, paths, strict=True)]
    stored = [held.encode() if isinstance(held, str) else held for held in stored]
    stored = [(image_in_bytes(held) or held) if held else held for held in stored]
    return [errors.get(row, held) for row, held in enumerate(stored)], names


def _singles(column: pa.ChunkedArray, name: str, where: str) -> tuple[pa.ChunkedArray, dict[int, RowError]]:
    """Return the one item of each list, null where there is none; and an error for each row of several."""
    rows = python_values(column, name, where, kept=True)
    several = {
        place: RowError("several_images", f"the row holds {len(row)} images; make a row of each")
        for place, row in enumerate(rows)
        if row is not None and len(row) > 1
    }
    items = [row[0] if row is not None and len(row) == 1 else None for row in rows]
    return pa.chunked_array([pa.array(items, column.type.value_type)]), several


def _opened(
    data: list[bytes | RowError | None], names: list[str | None], layout: Layout, shard: Shard, links: ImageLinks | None
) -> list[bytes | RowError | None]:
    """Return the bytes of each row, of linked files too, or a RowError; None if links are not opened."""
    null = RowError("null_image", f"column {layout.image!r} is null, or holds neither bytes nor a path")
    found: list[bytes | RowError | None] = [
        null if held is None and name is None else held for held, name in zip(data, names, strict=True)
    ]
    wanted = [] if links is None else [(place, name) for place, name in enumerate(names) if name is not None]
    if links is not None and wanted:
        opened = links.read_all([name for _, name in wanted], folder_of(shard.uri))
        for (place, _), image in zip(wanted, opened, strict=True):
            found[place] = image
    return found
