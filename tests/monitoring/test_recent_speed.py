"""The speed over the last minutes, with a clock of the test's own."""

import pytest

from pipeline.monitoring.recent_speed import BUCKET_S, WINDOW_S, RecentSpeed
from schemas.manifest import Failure, UnitRecord


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


RECORD = UnitRecord(
    unit="u", digest="d", branch="b", shard=None, first=0, rows=10, selected=10, copies=2, accepted=18, rejected=2,
    quarantined=0, retried=1, files={},
)  # fmt: skip


def test_the_speed_is_that_of_the_last_minutes() -> None:
    clock = Clock()
    speed = RecentSpeed(clock)
    assert speed.record()["images_per_s"] == 0
    for _ in range(4):
        clock.now += 15
        speed.add(RECORD)
    speed.add(Failure(unit="u", branch="b", rows=1, digest="d", attempts=3, error="e"))
    expected = {"units_done": 4, "units_failed": 1, "over_s": 60.0, "images_per_s": 1.4, "units_per_min": 4.0}
    assert speed.record() == expected
    clock.now += WINDOW_S - 15  # three of the four are older now
    assert speed.record() == expected | {"over_s": WINDOW_S, "images_per_s": 0.07, "units_per_min": 0.2}
    clock.now += WINDOW_S
    assert (speed.record()["images_per_s"], speed.record()["units_done"]) == (0, 4)


def test_memory_does_not_grow_with_units() -> None:
    clock = Clock()
    speed = RecentSpeed(clock)
    for _ in range(10_000):
        clock.now += 0.1
        speed.add(RECORD)
    assert len(speed._buckets) <= WINDOW_S / BUCKET_S + 1
    assert speed.record()["images_per_s"] == pytest.approx(210, rel=BUCKET_S / WINDOW_S)
