"""Unit checks: the bytes and columns of a unit's files, and each of their rows, against its record."""

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.audit.attempt_accounting import AttemptAccounting
from pipeline.audit.lineage_checks import LineageChecks, class_findings, columns_read, schema_findings
from pipeline.audit.source_checks import SourceChecks
from pipeline.audit.verification import Verification
from pipeline.audit.watermark_checks import WatermarkChecks
from pipeline.contracts import Pixels
from pipeline.errors import PalimpsestError, RowError
from pipeline.messages import error_line
from pipeline.plan import ORIGINAL, BranchPlan
from pipeline.shards.images.codecs import decode
from pipeline.shards.output.parquet_files import open_parquet
from pipeline.shards.output.store import Store
from pipeline.shards.output.unit_files import RowIndex
from schemas.manifest import FileRecord, Manifest, UnitRecord

MALFORMED = (TypeError, KeyError, AttributeError, ValueError, PalimpsestError)
"""Errors that a malformed row or record raises where a check reads it."""
PIXEL_BYTES = 64 << 20
"""Decoded images that are held while their marks are read; one may be larger."""


@dataclass
class UnitChecks:
    """Checks the files and rows of one unit, and adds findings and counts to `found`."""

    store: Store
    manifest: Manifest
    record: UnitRecord
    branch: BranchPlan
    source_checks: SourceChecks
    marks: WatermarkChecks | None
    found: Verification
    index: RowIndex = field(default_factory=RowIndex)
    last_order: dict[str, tuple[int, ...]] = field(default_factory=dict)  # of the last row in each folder

    def run(self) -> None:
        """Check the unit's files."""
        record, found = self.record, self.found
        try:
            accounting = AttemptAccounting(record, self.branch, self.manifest.recipe["seed"])
            lineage_checks = LineageChecks(self.manifest, record, self.branch)
        except MALFORMED as error:
            found.add(f"branch {record.branch}: its chain in the manifest cannot be read: {error!r}")
            return
        rows = {"data": record.accepted, "rejected": record.rejected + record.retried, "quarantine": record.quarantined}
        readable = True
        for folder, expected in rows.items():
            file = record.files.get(folder)
            count = self._file(file, folder, accounting, lineage_checks) if file else 0
            if count is None:
                readable = False
            else:
                message = f"unit {record.unit}: {folder}/ holds {count} rows, and its record says {expected}"
                found.expect(count == expected, message)
        if readable:
            found.extend(accounting.findings())
            same = self.index.fields() == {"sample_ids": record.sample_ids, "payloads": record.payloads}
            found.expect(same, f"unit {record.unit}: the index of its rows in the commit log is not that of its rows")

    def _file(
        self, file: FileRecord, folder: str, accounting: AttemptAccounting, lineage_checks: LineageChecks
    ) -> int | None:
        """Check a file's bytes, columns and rows; return its number of rows, None where they cannot be read."""
        data = _read_file(self.store, file, self.found)
        if data is None:
            return None
        count = 0
        try:
            parquet = open_parquet(data)
            schema_faults = list(schema_findings(file.path, folder, parquet.schema_arrow))
            self.found.extend(schema_faults)
            if schema_faults:
                return None
            self.found.extend(class_findings(file.path, parquet.schema_arrow, self.manifest))
            if folder == "data" and self.record.shard is not None:
                self.source_checks.columns[tuple(parquet.schema_arrow.names)] = None
            for table in _row_groups(parquet, columns_read(folder, parquet.schema_arrow.names)):
                count += table.num_rows
                self._rows(table.to_pylist(), folder, accounting, lineage_checks)
                self._add_to_index(folder, table)
        except (pa.ArrowException, OSError, ValueError) as error:
            self.found.add(f"{file.path}: not a Parquet file that can be read: {error_line(error)}")
            return None
        return count

    def _rows(
        self, group: list[dict[str, Any]], folder: str, accounting: AttemptAccounting, lineage_checks: LineageChecks
    ) -> None:
        marked: list[tuple[dict[str, Any], Pixels]] = []
        held = 0
        for row in group:
            try:
                if folder == "quarantine":
                    self._quarantined(row, accounting, lineage_checks)
                    continue
                self._row(row, folder, accounting, lineage_checks)
                if self.record.branch == ORIGINAL:
                    continue
                pixels = decode(row["image"]["bytes"], 2**31)
                if self.marks is not None:
                    marked.append((row, pixels))
                    held += pixels.nbytes
            except RowError as error:
                self.found.add(f"sample {row['sample_id']}: its image cannot be decoded: {error}")
            except MALFORMED as error:
                name = row.get("sample_id") or f"of unit {self.record.unit}"
                self.found.add(f"sample {name}: its row in {folder}/ is malformed: {error_line(error)}")
            if held >= PIXEL_BYTES:
                self._check_marks(marked)
                marked, held = [], 0
        self._check_marks(marked)

    def _check_marks(self, marked: list[tuple[dict[str, Any], Pixels]]) -> None:
        if self.marks is not None and marked:
            images = {row["sample_id"]: pixels for row, pixels in marked}
            self.marks.check([row for row, _ in marked], images, self.found)

    def _row(
        self, row: dict[str, Any], folder: str, accounting: AttemptAccounting, lineage_checks: LineageChecks
    ) -> None:
        found, name = self.found, row["sample_id"]
        found.images += 1
        if not isinstance(name, str):
            raise ValueError("it has no sample_id")
        found.extend(lineage_checks.findings(row, folder))
        place = accounting.place(row)
        found.expect(place is not None, f"sample {name}: does not follow from its seed and source")
        if place is not None:
            found.extend(accounting.add(row, place))
            order = (*place, row["attempt"])
            found.expect(
                order > self.last_order.get(folder, (-1,)), f"sample {name}: not in the order rows are made in"
            )
            self.last_order[folder] = order
        if self.record.shard is not None:
            mixed = lineage_checks.mixes and row["soft_label"] is not None
            found.extend(self.source_checks.add(row, mixed))

    def _add_to_index(self, folder: str, table: pa.Table) -> None:
        with contextlib.suppress(*MALFORMED):  # a malformed row has a finding
            self.index.add(folder, table)

    def _quarantined(self, row: dict[str, Any], accounting: AttemptAccounting, lineage_checks: LineageChecks) -> None:
        self.found.extend(lineage_checks.quarantined(row))
        self.found.extend(accounting.quarantine(row["source_row"], row["error_code"]))
        if self.record.shard is not None:
            self.found.extend(self.source_checks.add_quarantined(self.record.shard, row))


def _read_file(store: Store, file: FileRecord, found: Verification) -> bytes | None:
    found.files += 1
    try:
        data = store.read(file.path)
    except FileNotFoundError:
        found.add(f"{file.path}: the file is missing")
        return None
    if hashlib.sha256(data).hexdigest() == file.sha256:
        found.expect(len(data) == file.bytes, f"{file.path}: {len(data)} bytes, and its record says {file.bytes}")
        return data
    found.add(f"{file.path}: sha256 is not the committed one")
    return None


def _row_groups(file: pq.ParquetFile, columns: list[str]) -> Iterator[pa.Table]:
    for group in range(file.num_row_groups):
        yield file.read_row_group(group, columns=columns)
