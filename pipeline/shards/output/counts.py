"""Sums over the records of units: one record at a time, or column by column over a segment."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from schemas.manifest import Counts, UnitRecord

SUMMED: Final = ("rows", "selected", "accepted", "rejected", "quarantined", "retried")
REASONS: Final = ("reasons", "quarantine_reasons")
COUNT_COLUMNS: Final = ("branch", "copies", *SUMMED, *REASONS)
"""Columns of a segment that are summed up, or needed for it."""


@dataclass
class CountSums:
    """The sums of some records so far; `rows` are the rows of their units, before `where`."""

    units: int = 0
    rows: int = 0
    selected: int = 0
    asked: int = 0
    accepted: int = 0
    rejected: int = 0
    quarantined: int = 0
    retried: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    quarantine_reasons: Counter[str] = field(default_factory=Counter)

    def add(self, record: UnitRecord) -> None:
        """Add the record of a unit."""
        self.units += 1
        self.rows += record.rows
        self.selected += record.selected
        self.asked += record.selected * record.copies
        self.accepted += record.accepted
        self.rejected += record.rejected
        self.quarantined += record.quarantined
        self.retried += record.retried
        if record.reasons:
            self.reasons.update(record.reasons)
        if record.quarantine_reasons:
            self.quarantine_reasons.update(record.quarantine_reasons)

    def include(self, other: "CountSums") -> None:
        """Add all of other sums."""
        for name in ("units", "rows", "selected", "asked", "accepted", "rejected", "quarantined", "retried"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.reasons.update(other.reasons)
        self.quarantine_reasons.update(other.quarantine_reasons)

    def counts(self) -> Counts:
        """Return the sums as the manifest holds them, with the most frequent reason first."""
        return Counts(
            units=self.units,
            selected=self.selected,
            asked=self.asked,
            accepted=self.accepted,
            rejected=self.rejected,
            quarantined=self.quarantined,
            retried=self.retried,
            reasons=_ordered(self.reasons),
            quarantine_reasons=_ordered(self.quarantine_reasons),
        )


@dataclass
class WrittenFiles:
    """Rows, bytes and number of the files of some units."""

    rows: int = 0
    bytes: int = 0
    files: int = 0


def add_counts(sums: dict[str, CountSums], table: pa.Table) -> None:
    """Add the rows of a segment with `COUNT_COLUMNS` to the sums of their branches."""
    asked = pc.multiply(table["selected"], table["copies"])
    numbers = table.select(["branch", *SUMMED]).append_column("asked", asked)
    wanted = ("asked", *SUMMED)
    found = numbers.group_by("branch").aggregate([*((name, "sum") for name in wanted), ("branch", "count")])
    for row in found.to_pylist():
        each = CountSums(row["branch_count"], **{name: row[f"{name}_sum"] for name in wanted})
        sums.setdefault(row["branch"], CountSums()).include(each)
    for name in REASONS:
        column = table[name].combine_chunks()
        every, rows = pc.list_flatten(column), pc.list_parent_indices(column)
        if not len(every):
            continue
        reasons = {each: pc.struct_field(every, each) for each in ("reason", "count")}
        reasons["branch"] = table["branch"].combine_chunks().take(rows)
        for row in pa.table(reasons).group_by(["branch", "reason"]).aggregate([("count", "sum")]).to_pylist():
            getattr(sums[row["branch"]], name)[row["reason"]] += row["count_sum"]


def count(records: Iterable[UnitRecord]) -> Counts:
    """Return the sums over some records."""
    found = CountSums()
    for record in records:
        found.add(record)
    return found.counts()


def total(sums: Iterable[CountSums]) -> Counts:
    """Return the sums over all branches."""
    found = CountSums()
    for each in sums:
        found.include(each)
    return found.counts()


def _ordered(reasons: Counter[str]) -> dict[str, int]:
    return dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0])))
