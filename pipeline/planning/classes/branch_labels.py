"""The labels of the images that a branch makes, against which ClassRequirements are checked."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import UnitError
from pipeline.planning.where.row_filter import RowFilter
from pipeline.shards.columns.label_values import LabelValues
from pipeline.shards.columns.layout import Layout
from pipeline.shards.columns.python_values import python_values
from pipeline.shards.files.discovery import Shard
from pipeline.shards.files.partitions import partition_column
from pipeline.shards.files.uris import open_binary
from pipeline.shards.reader import SourceRow
from schemas.recipe import Branch

_BATCH_ROWS = 4096


@dataclass(frozen=True)
class BranchLabels:
    """Number of rows by stored label (None: null); for a branch of `per_class` or `count`, number of images."""

    layout: Layout
    rows: Mapping[Any, int]
    made: Literal["copies", "per_class", "count"] = "copies"


def branch_labels(
    branch: Branch, where: str | None, layout: Layout, values: LabelValues, shards: Sequence[Shard]
) -> BranchLabels:
    """Return the labels of the images that a branch makes; `where` is its condition on rows, already checked."""
    if branch.per_class is not None:
        named = range(len(layout.classes or ()))
        return BranchLabels(layout, {layout.table.value(index): branch.per_class for index in named}, "per_class")
    if branch.count is not None:
        return BranchLabels(layout, {None: branch.count}, "count")
    if layout.label is None:
        return BranchLabels(layout, {None: sum(shard.rows for shard in shards)})
    if where is None:
        return BranchLabels(layout, values.rows)
    return BranchLabels(layout, _taken(RowFilter(where, layout), layout, values, shards))


def _taken(selection: RowFilter, layout: Layout, values: LabelValues, shards: Sequence[Shard]) -> dict[Any, int]:
    """Return the number of rows that a condition takes, by label; reads only the labels if it uses no other column."""
    assert layout.label is not None
    used = selection.columns_used()
    if used <= {"label", layout.label}:
        rows = [_row(0, label, {layout.label: label}) for label in values.rows]
        return {rows[index].label: values.rows[rows[index].label] for index in selection.of(rows)}
    found: Counter[Any] = Counter()
    names = [name for name in layout.light if name in {*used, layout.label}]
    for shard in shards:
        for rows in _rows(shard, layout, names):
            found.update(rows[index].label for index in selection.of(rows))
    return dict(found)


def _rows(shard: Shard, layout: Layout, names: Sequence[str]) -> Iterator[list[SourceRow]]:
    """Yield the rows of a shard in batches, with some columns; stops at a part that cannot be read."""
    label = str(layout.label)
    start = 0
    try:
        with open_binary(shard.uri) as stream:
            file = pq.ParquetFile(stream)
            held = [name for name in names if name in file.schema_arrow.names]
            if not held:  # all wanted columns are partition columns
                columns = _lists(shard, layout, names, None, 1)
                yield [_row(place, row[label], row) for row in _dicts(names, columns) for place in range(shard.rows)]
                return
            for batch in file.iter_batches(_BATCH_ROWS, columns=held, use_threads=False):
                columns = _lists(shard, layout, names, batch, batch.num_rows)
                yield [_row(start + place, row[label], row) for place, row in enumerate(_dicts(names, columns))]
                start += batch.num_rows
    except (pa.ArrowException, OSError, UnitError):
        return


def _dicts(names: Sequence[str], columns: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _lists(
    shard: Shard, layout: Layout, names: Sequence[str], batch: pa.RecordBatch | None, rows: int
) -> list[list[Any]]:
    """Return the values of some columns, partition columns included, in the common types of all shards."""
    stated, found = dict(shard.partitions), []
    for name in names:
        kind = layout.schema.field(name).type
        if batch is not None and name in batch.schema.names:
            found.append(pa.array(python_values(batch.column(name), name, shard.uri), kind).to_pylist())
        else:
            found.append(partition_column(stated.get(name), kind, rows).to_pylist())
    return found


def _row(place: int, label: Any, light: dict[str, Any]) -> SourceRow:
    label = None if label != label else label  # NaN is no class, as a null is none
    return SourceRow(row=place, uri="", data=None, error=None, id=None, label=label, light=light)
