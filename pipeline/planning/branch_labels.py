"""The labels that a branch's images have, or are to have: what its class needs are checked against."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import UnitError
from pipeline.planning.selection import Selection
from pipeline.shards.label_values import LabelValues
from pipeline.shards.layout import Layout
from pipeline.shards.locate import Shard
from pipeline.shards.reader import SourceRow
from pipeline.shards.uris import open_binary
from schemas.recipe import Branch

_BATCH_ROWS = 4096


@dataclass(frozen=True)
class BranchLabels:
    """Rows by stored label, None for null; of a branch of `per_class` or `count`, images."""

    layout: Layout
    rows: Mapping[Any, int]
    made: Literal["copies", "per_class", "count"] = "copies"


def branch_labels(branch: Branch, layout: Layout, values: LabelValues, shards: Sequence[Shard]) -> BranchLabels:
    """Return the labels of what a branch makes; its `where` has been checked."""
    if branch.per_class is not None:
        named = range(len(layout.classes or ()))
        return BranchLabels(layout, {layout.table.value(index): branch.per_class for index in named}, "per_class")
    if branch.count is not None:
        return BranchLabels(layout, {None: branch.count}, "count")
    if layout.label is None:
        return BranchLabels(layout, {None: sum(shard.rows for shard in shards)})
    if branch.where is None:
        return BranchLabels(layout, values.rows)
    return BranchLabels(layout, _taken(Selection(branch.where, layout), layout, values, shards))


def _taken(selection: Selection, layout: Layout, values: LabelValues, shards: Sequence[Shard]) -> dict[Any, int]:
    """Return the rows that a condition takes, by label: from the distinct labels alone where it names no more."""
    assert layout.label is not None
    used = selection.columns_used()
    if used <= {"label", layout.label}:
        rows = [_row(0, label, {layout.label: label}) for label in values.rows]
        return {rows[index].label: values.rows[rows[index].label] for index in selection.of(rows)}
    found: Counter[Any] = Counter()
    names = [name for name in layout.light if name in {*used, layout.label}]
    for shard in shards:
        for rows in _rows(shard, layout.label, names):
            found.update(rows[index].label for index in selection.of(rows))
    return dict(found)


def _rows(shard: Shard, label: str, names: Sequence[str]) -> Iterator[list[SourceRow]]:
    """Yield the rows of a shard, a batch at a time, with some columns; a broken shard is the run's concern."""
    start = 0
    try:
        with open_binary(shard.uri) as stream:
            for batch in pq.ParquetFile(stream).iter_batches(_BATCH_ROWS, columns=list(names), use_threads=False):
                light = [dict(zip(names, row, strict=True)) for row in zip(*_lists(batch, names), strict=True)]
                yield [_row(start + place, row[label], row) for place, row in enumerate(light)]
                start += batch.num_rows
    except (pa.ArrowException, OSError, UnitError):
        return


def _lists(batch: pa.RecordBatch, names: Sequence[str]) -> list[list[Any]]:
    held = batch.schema.names
    return [batch.column(name).to_pylist() if name in held else [None] * batch.num_rows for name in names]


def _row(place: int, label: Any, light: dict[str, Any]) -> SourceRow:
    label = None if label != label else label  # NaN is no class, as a null is none
    return SourceRow(row=place, uri="", data=None, error=None, id=None, label=label, light=light)
