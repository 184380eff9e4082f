"""Segments of the commit log as Arrow tables, and the records of units that they hold."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.messages import error_line, short_repr
from schemas.manifest import UnitRecord
from schemas.segments import SEGMENT

FOLDERS: Final = ("data", "rejected", "quarantine")
SAMPLE_ID_BYTES: Final = 16
PAYLOAD_BYTES: Final = 8
INDEX_COLUMNS: Final = ("sample_ids", "payloads")
"""Columns that grow with the rows of a unit; only a search reads them."""
RECORD_COLUMNS: Final = tuple(name for name in SEGMENT.names if name not in INDEX_COLUMNS)
MAX_ROW_GROUP_BYTES: Final = 8 << 20
_FILE_COLUMNS: Final = {folder: f"{folder}_file" for folder in FOLDERS}
_PLAIN: Final = tuple(
    name for name in SEGMENT.names if name not in ("label", "reasons", "quarantine_reasons", *_FILE_COLUMNS.values())
)


def segment_table(records: Iterable[UnitRecord]) -> pa.Table:
    """Return records as a table of a segment."""
    rows = []
    for record in records:
        row: dict[str, Any] = {name: getattr(record, name) for name in _PLAIN}
        row["label"] = None if record.label is None else json.dumps(record.label)
        for name in ("reasons", "quarantine_reasons"):
            row[name] = [{"reason": reason, "count": count} for reason, count in getattr(record, name).items()]
        for folder, column in _FILE_COLUMNS.items():
            file = record.files.get(folder)
            row[column] = None if file is None else dict(file)
        rows.append(row)
    return pa.Table.from_pylist(rows, SEGMENT)


def records_of(table: pa.Table, where: str) -> Iterator[UnitRecord]:
    """Yield the records in a table of all of `RECORD_COLUMNS`, or all columns.

    Args:
        where: the segment, for messages.

    Raises:
        InputError: a value is none that a run writes.
    """
    columns = {name: table.column(name).to_pylist() for name in table.column_names}
    for values in zip(*columns.values(), strict=True):
        row = dict(zip(columns, values, strict=True))
        try:
            yield _record(row)
        except (ValueError, TypeError) as error:
            raise InputError(
                f"{where}: the record of unit {short_repr(row['unit'])} cannot be read: {error_line(error)}"
            ) from None


def _record(row: dict[str, Any]) -> UnitRecord:
    files = {folder: file for folder, column in _FILE_COLUMNS.items() if (file := row.pop(column)) is not None}
    row["label"] = None if row["label"] is None else json.loads(row["label"])
    row["reasons"] = _counts(row["reasons"])
    row["quarantine_reasons"] = _counts(row["quarantine_reasons"])
    return UnitRecord.model_validate({**row, "files": files})


def _counts(reasons: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    return {each["reason"]: each["count"] for each in reasons}


def write_segment(tables: Iterable[pa.Table], target: pa.NativeFile | str) -> int:
    """Write tables as one segment, in row groups of bounded size; return how many units it names."""
    units = 0
    with pq.ParquetWriter(
        target, SEGMENT, compression="zstd", use_dictionary=["branch", "shard", "device"], write_statistics=["unit"]
    ) as writer:
        for table in tables:
            for group in row_groups(table):
                writer.write_table(group, row_group_size=max(1, group.num_rows))
                units += group.num_rows
    return units


def row_groups(table: pa.Table) -> Iterator[pa.Table]:
    """Yield a table in parts of at most `MAX_ROW_GROUP_BYTES`, or one row."""
    rows = max(1, table.num_rows)
    size = max(1, int(rows * MAX_ROW_GROUP_BYTES / max(table.nbytes, 1)))
    for first in range(0, table.num_rows, size):
        yield table.slice(first, size)
