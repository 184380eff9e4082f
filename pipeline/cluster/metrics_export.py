"""Metrics handed to Ray, which serves them on each node's metrics port (`ray.util.metrics`)."""

from collections.abc import Generator, Iterable, Mapping
from typing import Any

import ray.util.metrics

from pipeline.monitoring.metrics import METRICS, UNIT_BOUNDARIES_S, UNIT_RETRIES, UNITS_LEFT, Metric, changes
from schemas.manifest import Failure, UnitRecord

Outcome = UnitRecord | Failure


class MetricsExport:
    """The metrics of this process. Ray must be connected."""

    def __init__(self) -> None:
        self._made = {metric: _made(metric) for metric in METRICS}

    def add(self, metric: Metric, value: float, labels: Mapping[str, str]) -> None:
        """Add `value` > 0 to a counter, put it into a histogram, or set a gauge to it."""
        made, labels = self._made[metric], dict(labels)
        if metric.kind == "counter":
            made.inc(value, labels)
        elif metric.kind == "histogram":
            made.observe(value, labels)
        else:
            made.set(value, labels)

    def retried(self, branch: str) -> None:
        """Count a try of a unit that failed and is followed by another."""
        self.add(UNIT_RETRIES, 1, {"branch": branch})


def exported(outcomes: Iterable[Outcome], units: Mapping[str, int]) -> Generator[Outcome, None, None]:
    """Yield every outcome, and export what it changes.

    Args:
        units: of this run by branch, of which `outcomes` has one outcome each.
    """
    export, left = MetricsExport(), dict(units)
    for branch, number in left.items():
        export.add(UNITS_LEFT, number, {"branch": branch})
    for outcome in outcomes:
        for metric, value, labels in changes(outcome):
            export.add(metric, value, labels)
        if outcome.branch in left:
            left[outcome.branch] -= 1
            export.add(UNITS_LEFT, left[outcome.branch], {"branch": outcome.branch})
        yield outcome


def _made(metric: Metric) -> Any:
    name, text, labels = metric.full_name, metric.description, metric.labels
    if metric.kind == "counter":
        return ray.util.metrics.Counter(name, text, labels)
    if metric.kind == "gauge":
        return ray.util.metrics.Gauge(name, text, labels)
    return ray.util.metrics.Histogram(name, text, list(UNIT_BOUNDARIES_S), labels)
