"""The distinct values of the label column over all shards, with their numbers of rows. Reads only that column."""

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.messages import error_line, listed
from pipeline.shards.columns.class_metadata import enum_names
from pipeline.shards.columns.class_table import label_kind
from pipeline.shards.columns.column_types import is_string
from pipeline.shards.columns.python_values import python_values
from pipeline.shards.files.discovery import Shard
from pipeline.shards.files.partitions import partition_column
from pipeline.shards.files.uris import is_local, open_binary

MAX_TEXTS: Final = 25_000  # ImageNet-21k has 21,841
MAX_NUMBERS: Final = 1_000_000
_TEXT: Final = pa.string()
_THREADS: Final = 8
_BATCH_ROWS: Final = 65_536


@dataclass(frozen=True)
class LabelValues:
    """Number of rows by stored value (None: null and NaN), and the ordered categories if all shards declare the same.

    Categories are declared by an ordered dictionary (a pandas Categorical with `ordered=True`), or by a Polars Enum.
    """

    rows: Mapping[Any, int] = field(default_factory=dict)
    declared: tuple[str, ...] | None = None

    @property
    def values(self) -> list[Any]:
        """The distinct values without null, sorted."""
        return sorted(value for value in self.rows if value is not None)

    @property
    def texts(self) -> tuple[str, ...]:
        """The class names of text labels: the declared categories, else the sorted texts; unique, none blank."""
        named = self.values if self.declared is None else self.declared
        return tuple(dict.fromkeys(text for text in named if text.strip()))


def read_label_values(shards: Sequence[Shard], label: str, kind: pa.DataType = _TEXT) -> LabelValues:
    """Return the values of the label column. A shard that cannot be read is left out: its units will fail.

    Args:
        kind: the type of the column over all shards.

    Raises:
        InputError: there are too many distinct values for classes, or a remote shard cannot be read.
    """
    rows: Counter[Any] = Counter()
    declared: set[tuple[str, ...] | None] = set()
    with ThreadPoolExecutor(_THREADS) as pool:
        for shard, found in zip(shards, pool.map(lambda shard: _values_of(shard, label, kind), shards), strict=True):
            if found is None:
                continue
            rows.update(found.rows)
            if shard.rows:
                declared.add(found.declared)
            _check_number(rows, label)
    same = declared.pop() if len(declared) == 1 else None
    return LabelValues(dict(rows), same)


def _values_of(shard: Shard, label: str, kind: pa.DataType) -> LabelValues | None:
    try:
        with open_binary(shard.uri) as stream:
            file = pq.ParquetFile(stream)
            if label in file.schema_arrow.names:
                return _counted(file, label, shard.uri)
            (value,) = partition_column(dict(shard.partitions).get(label), kind, 1).to_pylist()
            return LabelValues({value: shard.rows})
    except (pa.ArrowException, OSError, ValueError) as error:
        if is_local(shard.uri):
            return None
        raise InputError(f"{shard.uri}: column {label!r} cannot be read: {error_line(error, 200)}") from error


def _counted(file: pq.ParquetFile, label: str, where: str) -> LabelValues:
    rows: Counter[Any] = Counter()
    declared: set[tuple[str, ...] | None] = set()
    stated = enum_names(file.schema_arrow.field(label))
    for batch in file.iter_batches(_BATCH_ROWS, columns=[label], use_threads=False):
        column = batch.column(0)
        if pa.types.is_dictionary(column.type):
            ordered = column.type.ordered and is_string(column.type)
            declared.add(stated or (tuple(column.dictionary.to_pylist()) if ordered else None))
            column = column.dictionary_decode()
        if label_kind(column.type) == "text":
            column = column.cast(pa.large_string())  # value_counts takes a null view for an empty text
        for pair in python_values(pc.value_counts(column), label, where, kept=True):
            value = pair["values"]
            rows[None if value != value else value] += pair["counts"]
        _check_number(rows, label)
    return LabelValues(rows, declared.pop() if len(declared) == 1 else None)


def _check_number(rows: Mapping[Any, int], label: str) -> None:
    text = any(isinstance(value, str) for value in list(rows)[:2])
    limit = MAX_TEXTS if text else MAX_NUMBERS
    if len(rows) > limit:
        first = listed([value for value in list(rows)[:4] if value is not None], 3)
        raise InputError(
            f"input.columns.label: column {label!r} has more than {limit:,} distinct values ({first}, ...), so it "
            f"holds no classes; name another column, or carry it as it is with input.columns: {{label: none}}"
        )
