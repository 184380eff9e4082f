"""`run_unit` makes one unit: read, decode, draw and apply, score, watermark, encode, write, publish its files.

A unit is a pure function of its inputs: no byte depends on the caller, on other units, or on earlier runs.
"""

import time
from collections import Counter
from collections.abc import Iterator

import pyarrow as pa

from pipeline.devices import device_model
from pipeline.errors import UnitError
from pipeline.execution.background import BackgroundThreads
from pipeline.execution.job import LoadedBranch
from pipeline.execution.micro_batches import ComputeReport
from pipeline.execution.output_rows import tables_of
from pipeline.execution.row_failures import RowFailures
from pipeline.execution.sample_generation import make_samples
from pipeline.execution.window import Window, windows
from pipeline.plan import Unit
from pipeline.shards.output.unit_files import UnitFiles
from schemas.manifest import UnitRecord

COUNT_NAMES = {"data": "accepted", "rejected": "rejected", "quarantine": "quarantined"}
"""The count in the record that rows of each folder add to."""


def run_unit(branch: LoadedBranch, unit: Unit) -> UnitRecord:
    """Make one unit and publish its files; return its record, which the driver puts into the commit log.

    Raises:
        UnitError: the shard cannot be read, memory ran out, an operator failed on every image.
    """
    started = time.perf_counter()
    report = ComputeReport()
    counts = {"selected": 0, "retried": 0, **dict.fromkeys(COUNT_NAMES.values(), 0)}
    reasons: Counter[str] = Counter()
    codes: Counter[str] = Counter()
    row_failures = RowFailures(unit)
    with (
        UnitFiles(branch.job.open_store(), unit.name) as files,
        BackgroundThreads(branch.plan.cpus, branch.device) as background,
    ):
        for window, tables in _written_windows(branch, unit, report, background, files):
            counts["selected"] += window.selected
            for folder, table in tables.items():
                counts[COUNT_NAMES[folder]] += table.num_rows
                if folder == "rejected":
                    reasons.update(table.column("rejected_reason").to_pylist())
            row_failures.note(window)
            codes.update(error.code for error in window.errors.values())
            retried = [each for each in window.samples if not each.final and each.source not in window.errors]
            counts["retried"] += len(retried)
            counts["rejected"] -= len(retried)
            reasons.subtract(str(each.rejected) for each in retried)
        record = UnitRecord(
            unit=unit.name,
            digest=unit.digest,
            branch=unit.branch,
            shard=unit.shard.path if unit.shard else None,
            first=unit.first,
            rows=unit.rows,
            label=unit.label,
            copies=max(1, branch.plan.copies),
            **counts,
            reasons={reason: times for reason, times in sorted(reasons.items()) if times},
            quarantine_reasons=dict(sorted(codes.items())),
            files={},
            exact=report.exact,
            seconds=round(time.perf_counter() - started, 3),
            busy_s=round(report.busy_s, 3),
            device=device_model(branch.device),
        )
        check_counts(record)
        row_failures.write(branch.job.open_store())
        return files.publish(record)


def _written_windows(
    branch: LoadedBranch, unit: Unit, report: ComputeReport, background: BackgroundThreads, files: UnitFiles
) -> Iterator[tuple[Window, dict[str, pa.Table]]]:
    """Yield a unit's windows with their tables, in order; one is encoded and written while the next is made."""

    def generated() -> Iterator[Window]:
        for window in background.prefetch(windows(branch, unit, background)):
            make_samples(branch, unit, window, report, background)
            yield window

    def written(window: Window) -> tuple[Window, dict[str, pa.Table]]:
        tables = tables_of(branch, unit, window, background)
        for folder, table in tables.items():
            files.add(folder, table)
        return window, tables

    return background.map_in_background(written, generated())


def make_window(
    branch: LoadedBranch, unit: Unit, window: Window, report: ComputeReport, background: BackgroundThreads
) -> dict[str, pa.Table]:
    """Make every image of a window; return a table for each of the folders that gets rows."""
    make_samples(branch, unit, window, report, background)
    return tables_of(branch, unit, window, background)


def check_counts(record: UnitRecord) -> None:
    """Raise UnitError unless every image asked for is accepted, finally rejected, or quarantined with its row."""
    asked = record.selected * record.copies
    accounted = record.accepted + record.rejected + record.quarantined * record.copies
    if accounted != asked:
        raise UnitError(f"unit {record.unit}: {asked} images asked for, {accounted} accounted for")
