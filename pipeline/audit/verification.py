"""The result of `verify`: what was checked, and what was found; parts of it are added up in plan order."""

from collections.abc import Iterable
from dataclasses import dataclass, field

SHOWN = 20
"""Findings and notes that are printed; the rest are counted."""
MAX_FINDINGS = 1_000
"""Findings that are kept; the rest are counted."""


@dataclass
class Verification:
    """What was checked, and what was found wrong.

    Attributes:
        findings: the first of them, each once.
        more: how many more there are.
        unchecked: how many times something could not be checked, by what and why; `notes` say so in the end.
    """

    findings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    files: int = 0
    images: int = 0
    source_links: int = 0
    watermarks: int = 0
    sealed: bool = False  # and the seal was checked
    clear: int = 0  # recorded payloads of the form of versions that made no seals
    more: int = 0
    unchecked: dict[tuple[str, str], int] = field(default_factory=dict)
    _known: set[str] = field(default_factory=set, repr=False)

    @property
    def ok(self) -> bool:
        return not self.findings

    def add(self, finding: str) -> None:
        """Add a finding; one that is there already, since it is of many units, is not added again."""
        if finding in self._known:
            return
        if len(self.findings) >= MAX_FINDINGS:
            self.more += 1
            return
        self._known.add(finding)
        self.findings.append(finding)

    def extend(self, findings: Iterable[str]) -> None:
        """Add some findings."""
        for finding in findings:
            self.add(finding)

    def expect(self, true: bool, finding: str) -> None:
        """Add a finding where something is not true."""
        if not true:
            self.add(finding)

    def not_checked(self, what: str, why: str, count: int) -> None:
        """Count what could not be checked: the note is `what: COUNT why`."""
        self.unchecked[what, why] = self.unchecked.get((what, why), 0) + count

    def include(self, part: "Verification") -> None:
        """Add another part of the data set."""
        self.extend(part.findings)
        for (what, why), count in part.unchecked.items():
            self.not_checked(what, why, count)
        for name in ("files", "images", "source_links", "watermarks", "clear", "more"):
            setattr(self, name, getattr(self, name) + getattr(part, name))

    def close(self) -> None:
        """Write the notes about what could not be checked, the first ones of many."""
        notes = [f"{what}: {count:,} {why}" for (what, why), count in self.unchecked.items()]
        self.notes += notes[:SHOWN]
        if len(notes) > SHOWN:
            self.notes.append(f"and {len(notes) - SHOWN:,} more notes like these")
