"""The result of `verify`: what was checked, and every finding."""

from dataclasses import dataclass, field

SHOWN = 20
"""Findings that are printed; the rest are counted."""


@dataclass
class Verification:
    """What was checked, and what was found wrong."""

    findings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    files: int = 0
    images: int = 0
    source_links: int = 0
    watermarks: int = 0
    sealed: bool = False  # and the seal was checked
    clear: int = 0  # recorded payloads of the form of versions that made no seals

    @property
    def ok(self) -> bool:
        return not self.findings

    def expect(self, true: bool, finding: str) -> None:
        if not true:
            self.findings.append(finding)
