"""Rows found by the index that the commit log holds: one column of it is read, then one row group of one data file.

A unit's record lists its rows of `data/`, then of `rejected/`, in the order of the files: 16 bytes of each sample id, 8
of each payload. The index is only where to look: what is found is compared with the row itself.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.messages import error_line
from pipeline.shards.output.commit_log import CommitLog, Place
from pipeline.shards.output.segments import PAYLOAD_BYTES, SAMPLE_ID_BYTES
from pipeline.shards.output.store import Store
from pipeline.shards.output.unit_files import MADE, id_bytes, payload_bytes
from schemas.manifest import FileRecord, UnitRecord

_SAMPLE_ID: Final = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class FoundRow:
    """A row of `data/` or `rejected/`, the record of its unit, and the type of its label."""

    record: UnitRecord
    row: dict[str, Any]
    label: pa.DataType


class RowSearch:
    """Looks rows of a data set up, by its commit log as it is when this is made.

    Raises:
        InputError: the log cannot be read; here and in every method.
    """

    def __init__(self, store: Store) -> None:
        self._store, self._log = store, CommitLog(store)

    def by_sample(self, sample: str) -> Iterator[FoundRow]:
        """Yield the rows with this sample id: one, if the data set is sound."""
        if _SAMPLE_ID.fullmatch(sample) is not None:
            found = self._at_index("sample_ids", SAMPLE_ID_BYTES, [id_bytes(sample)])
            yield from (each for each in found if each.row.get("sample_id") == sample)

    def by_payload(self, recorded: Sequence[str]) -> Iterator[FoundRow]:
        """Yield the rows that record one of some payloads; several where they share a name of 48 bits."""
        wanted = [payload_bytes([{"payload": each}]) for each in recorded]
        for each in self._at_index("payloads", PAYLOAD_BYTES, wanted):
            if recorded_payload(each.row) in recorded:
                yield each

    def sample_ids(self, without: str) -> Iterator[npt.NDArray[np.uint8]]:
        """Yield [N, 16] the sample ids of all rows but those of one branch, a row group of the log at a time."""
        for place, table in self._log.places(["branch", "sample_ids"]):
            for batch in table.filter(pc.not_equal(table.column("branch"), without)).to_batches():
                ids, _ = _flat(batch.column("sample_ids"), SAMPLE_ID_BYTES, place)
                yield ids.reshape(-1, SAMPLE_ID_BYTES)

    def rows(self, without: str) -> int:
        """Return how many rows have sample ids, but for those of one branch, by the counts of the records."""
        counts = ("accepted", "rejected", "retried")
        rows = 0
        for table in self._log.scan(["branch", *counts]):
            own = table.filter(pc.not_equal(table.column("branch"), without))
            rows += sum(pc.sum(own.column(name), min_count=0).as_py() for name in counts)
        return rows

    def _at_index(self, column: str, width: int, wanted: Sequence[bytes]) -> Iterator[FoundRow]:
        for place, table in self._log.places(["unit", column]):
            found: dict[str, list[int]] = {}
            for batch in table.to_batches():
                data, starts = _flat(batch.column(column), width, place)
                for row in _equal_rows(data.reshape(-1, width), wanted):
                    unit = int(np.searchsorted(starts, row, side="right")) - 1
                    found.setdefault(batch.column("unit")[unit].as_py(), []).append(int(row - starts[unit]))
            if found:
                yield from self._rows(place, found)

    def _rows(self, place: Place, found: Mapping[str, Sequence[int]]) -> Iterator[FoundRow]:
        for record in self._log.records_at(place):
            for row in found.get(record.unit, ()):
                yield self._row(record, row)

    def _row(self, record: UnitRecord, row: int) -> FoundRow:
        for file in (record.files[folder] for folder in MADE if folder in record.files):
            if row < file.rows:
                return self._read_row(record, file, row)
            row -= file.rows
        raise InputError(f"{self._store.uri}: unit {record.unit}: its record lists rows that its files do not hold")

    def _read_row(self, record: UnitRecord, file: FileRecord, row: int) -> FoundRow:
        """Read one row group of a data file."""
        where = f"{self._store.uri}/{file.path}"
        try:
            with self._store.open(file.path) as stream:
                parquet = pq.ParquetFile(stream, pre_buffer=True)
                group = 0
                while row >= (rows := parquet.metadata.row_group(group).num_rows):
                    row, group = row - rows, group + 1
                table = parquet.read_row_group(group, use_threads=False)
                return FoundRow(record, table.slice(row, 1).to_pylist()[0], table.schema.field("label").type)
        except FileNotFoundError:
            raise InputError(f"{where}: the file is missing") from None
        except (pa.ArrowException, IndexError, KeyError, OSError, RuntimeError, ValueError) as error:
            raise InputError(f"{where}: cannot be read ({error_line(error)}); see `palimpsest verify`") from None


def recorded_payload(row: Mapping[str, Any]) -> str | None:
    """Return the payload of a row's first mark as the row records it; None where it has none."""
    marks = row.get("watermarks")
    first = marks[0] if isinstance(marks, list) and marks else None
    return str(first["payload"]) if isinstance(first, dict) and "payload" in first else None


def _flat(
    column: pa.BinaryArray, width: int, place: Place
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.integer[Any]]]:
    """Return all bytes of a column, and the [N + 1] index of the first row of each of its values, `width` bytes a row.

    Raises:
        InputError: a value has another length.
    """
    _, offsets, data = column.buffers()
    starts = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1]
    if (np.diff(starts) % width).any():
        raise InputError(f"{place.segment.path}: its index of rows is none that a run writes; see `palimpsest verify`")
    held = np.empty(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)[starts[0] : starts[-1]]
    return held, (starts - starts[0]) // width


def _equal_rows(rows: npt.NDArray[np.uint8], wanted: Sequence[bytes]) -> list[int]:
    """Return the indexes of [N, W] rows that are equal to one of some values, rising."""
    words = rows.view(np.uint64)
    found = np.zeros(len(rows), np.bool_)
    for value in wanted:
        found |= (words == np.frombuffer(value, np.uint64)).all(axis=1)
    return [int(row) for row in np.flatnonzero(found)]
