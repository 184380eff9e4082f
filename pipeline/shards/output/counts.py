"""Sums over the records of units, one record at a time."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from schemas.manifest import Counts, UnitRecord


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

    def add(self, record: UnitRecord) -> None:
        """Add the files of a unit."""
        for file in record.files.values():
            self.rows += file.rows
            self.bytes += file.bytes
            self.files += 1


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
