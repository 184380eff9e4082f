"""Metrics handed to Ray, which serves them on each node's metrics port (`ray.util.metrics`)."""

import functools
from collections.abc import Generator, Iterable, Mapping
from typing import Any

import ray.util.metrics

from pipeline.monitoring.metrics import UNIT_BOUNDARIES_S, UNITS_LEFT, Metric, changes
from schemas.manifest import Failure, UnitRecord

Outcome = UnitRecord | Failure


def add(metric: Metric, value: float, labels: Mapping[str, str]) -> None:
    """Add `value` > 0 to a counter, put it into a histogram, or set a gauge to it. Ray must be connected."""
    made = _made(metric)
    if metric.kind == "counter":
        made.inc(value, dict(labels))
    elif metric.kind == "histogram":
        made.observe(value, dict(labels))
    else:
        made.set(value, dict(labels))


def exported(outcomes: Iterable[Outcome], units: Mapping[str, int]) -> Generator[Outcome, None, None]:
    """Yield every outcome, and export what it changes.

    Args:
        units: of this run by branch, of which `outcomes` has one outcome each.
    """
    _made.cache_clear()  # those of an earlier run belong to an earlier Ray
    left = dict(units)
    for branch, number in left.items():
        add(UNITS_LEFT, number, {"branch": branch})
    for outcome in outcomes:
        for metric, value, labels in changes(outcome):
            add(metric, value, labels)
        if outcome.branch in left:
            left[outcome.branch] -= 1
            add(UNITS_LEFT, left[outcome.branch], {"branch": outcome.branch})
        yield outcome


@functools.cache
def _made(metric: Metric) -> Any:
    name, text, labels = metric.full_name, metric.description, metric.labels
    if metric.kind == "counter":
        return ray.util.metrics.Counter(name, text, labels)
    if metric.kind == "gauge":
        return ray.util.metrics.Gauge(name, text, labels)
    return ray.util.metrics.Histogram(name, text, list(UNIT_BOUNDARIES_S), labels)
