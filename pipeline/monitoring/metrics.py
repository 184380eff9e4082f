"""The metrics of a run on Ray: their names, and what each unit that ends adds to them.

`pipeline/cluster/metrics_export.py` hands them to Ray, which serves them to Prometheus on every node. The labels are
the branch, the folder of the output, and nothing that grows with the data.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from schemas.manifest import Failure, UnitRecord

PREFIX = "palimpsest_"
UNIT_BOUNDARIES_S = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0, 3_000.0, 10_000.0)
"""Upper bounds of the buckets of a unit's seconds."""


@dataclass(frozen=True)
class Metric:
    """One metric: `kind` as Prometheus has it, `name` without its prefixes, `labels` beside those that Ray adds."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    description: str
    labels: tuple[str, ...] = ("branch",)

    @property
    def full_name(self) -> str:
        """The name that Ray gets."""
        return PREFIX + self.name

    @property
    def series(self) -> str:
        """The name of the series in Prometheus: Ray's prefix, and the ending that its kind has."""
        ending = {"counter": "_total", "gauge": "", "histogram": "_bucket"}[self.kind]
        return f"ray_{self.full_name}{ending}"


IMAGES = Metric("images", "counter", "Images written, by folder: data, rejected", ("branch", "folder"))
REJECTED = Metric("rejected_images", "counter", "Images rejected for good")
RETRIED = Metric("retried_images", "counter", "Images that a gate refused and that were made again")
QUARANTINED = Metric("quarantined_rows", "counter", "Source rows put into quarantine")
BYTES = Metric("written_bytes", "counter", "Bytes of the files written, by folder", ("branch", "folder"))
UNITS_DONE = Metric("units_done", "counter", "Units made and committed")
UNITS_FAILED = Metric("units_failed", "counter", "Units that failed for good")
UNIT_RETRIES = Metric("unit_retries", "counter", "Tries of a unit that failed and were followed by another")
UNIT_SECONDS = Metric("unit_seconds", "histogram", "Seconds of a unit, from its first row to its commit")
BUSY_SECONDS = Metric("busy_seconds", "counter", "Seconds of units that were spent inside operators")
UNITS_LEFT = Metric("units_left", "gauge", "Units of this run that have not ended yet: the queue")
WORKERS = Metric("workers", "gauge", "Workers of the run: those that load their models, and those that make units")
METRICS = (
    IMAGES,
    REJECTED,
    RETRIED,
    QUARANTINED,
    BYTES,
    UNITS_DONE,
    UNITS_FAILED,
    UNIT_RETRIES,
    UNIT_SECONDS,
    BUSY_SECONDS,
    UNITS_LEFT,
    WORKERS,
)
"""Every metric there is."""


def changes(outcome: UnitRecord | Failure) -> Iterator[tuple[Metric, float, dict[str, str]]]:
    """Yield what a unit that ended adds to counters and histograms: metric, value and labels; no zeros."""
    branch = {"branch": outcome.branch}
    if isinstance(outcome, Failure):
        yield UNITS_FAILED, 1, branch
        return
    yield UNITS_DONE, 1, branch
    yield UNIT_SECONDS, outcome.seconds, branch
    for metric, value in (
        (REJECTED, outcome.rejected),
        (RETRIED, outcome.retried),
        (QUARANTINED, outcome.quarantined),
        (BUSY_SECONDS, outcome.busy_s),
    ):
        if value > 0:
            yield metric, value, branch
    for folder, images in (("data", outcome.accepted), ("rejected", outcome.rejected + outcome.retried)):
        if images > 0:
            yield IMAGES, images, {**branch, "folder": folder}
    for folder, file in outcome.files.items():
        yield BYTES, file.bytes, {**branch, "folder": folder}
