"""The sample: one attempt at one image, as it goes through the chain, the gates and the watermark."""

from dataclasses import dataclass, field
from typing import Any

from pipeline.contracts import Partner, Pixels
from pipeline.errors import RowError


@dataclass
class Sample:
    """One attempt at one image: its place, its pixels so far, and what becomes its lineage."""

    sample_id: str
    source: int  # index of its row in the window
    copy: int
    label: int = -1  # class index
    pixels: Pixels | None = None
    attempt: int = 0
    final: bool = True  # False: a gate refused it, and it was made again
    shape: tuple[int, ...] | None = None  # of its source, [H, W, C]; None for synthesis
    source_pixels: Pixels | None = None  # kept for gates and for further attempts
    soft_label: list[float] | None = None
    steps: list[dict[str, Any]] = field(default_factory=list)
    partners: list[Partner] = field(default_factory=list)
    scores: list[dict[str, Any]] = field(default_factory=list)  # as they go into the column `quality`
    rejected: str | None = None
    error: RowError | None = None

    @property
    def alive(self) -> bool:
        """Whether it goes on through the chain: neither rejected nor failed."""
        return self.rejected is None and self.error is None
