"""What a unit adds to the metrics of a run, and how their series are called."""

from pipeline.monitoring.metrics import METRICS, UNITS_LEFT, changes
from schemas.manifest import Failure, FileRecord, UnitRecord

RECORD = UnitRecord(
    unit="u", digest="d", branch="b", shard=None, first=0, rows=10, selected=10, copies=2, accepted=15, rejected=3,
    quarantined=1, retried=4, seconds=2.5, busy_s=1.5,
    files={name: FileRecord(path=f"{name}/u.parquet", rows=1, bytes=size, sha256="") for name, size in
           (("data", 100), ("rejected", 20), ("quarantine", 3))},
)  # fmt: skip


def test_what_a_unit_adds() -> None:
    found = {(metric.name, labels.get("folder")): value for metric, value, labels in changes(RECORD)}
    assert found == {
        ("units_done", None): 1,
        ("unit_seconds", None): 2.5,
        ("busy_seconds", None): 1.5,
        ("rejected_images", None): 3,
        ("retried_images", None): 4,
        ("quarantined_rows", None): 1,
        ("images", "data"): 15,
        ("images", "rejected"): 7,
        ("written_bytes", "data"): 100,
        ("written_bytes", "rejected"): 20,
        ("written_bytes", "quarantine"): 3,
    }
    assert all(set(labels) == set(metric.labels) for metric, _, labels in changes(RECORD))


def test_what_adds_nothing_is_left_out() -> None:
    nothing = RECORD.model_copy(update={"accepted": 0, "rejected": 0, "retried": 0, "quarantined": 0, "busy_s": 0})
    assert {metric.name for metric, _, _ in changes(nothing)} == {"units_done", "unit_seconds", "written_bytes"}
    failure = Failure(unit="u", branch="b", rows=1, digest="d", attempts=3, error="e")
    assert [(m.name, value, labels) for m, value, labels in changes(failure)] == [("units_failed", 1, {"branch": "b"})]


def test_names_are_distinct_and_as_prometheus_has_them() -> None:
    assert len({metric.full_name for metric in METRICS}) == len(METRICS)
    assert {metric.series for metric in METRICS} >= {
        "ray_palimpsest_images_total", "ray_palimpsest_unit_seconds_bucket", "ray_palimpsest_units_left",
    }  # fmt: skip
    assert UNITS_LEFT.labels == ("branch",)
