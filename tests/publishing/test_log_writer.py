"""The driver's writer of the commit log: when records are written, and what happens where they cannot be."""

from pathlib import Path

import pytest

from pipeline.errors import ConflictError, StorageError
from pipeline.publishing import log_writer
from pipeline.publishing.log_writer import LogWriter
from pipeline.shards.output.store import LocalStore
from schemas.manifest import Failure
from tests.fixtures.commit_logs import records_in
from tests.shards.output.test_commit_log import record


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_records_wait_for_a_few_seconds_or_for_many_and_carry_the_run(tmp_path: Path) -> None:
    clock = Clock()
    with LogWriter(LocalStore(tmp_path), 7, clock=clock) as log:
        log.add(record("a"))
        log.add(Failure(unit="f", branch="b", rows=3, digest="d", attempts=3, error="no"))
        assert records_in(tmp_path) == {}
        clock.now = log_writer.FLUSH_S
        log.add(record("b"))
        assert {*records_in(tmp_path)} == {"a", "b"}
        log.add(record("c"))
        assert {*records_in(tmp_path)} == {"a", "b"}
    assert {unit: each.run for unit, each in records_in(tmp_path).items()} == {"a": 7, "b": 7, "c": 7}
    assert len(log.segments) == 2


@pytest.mark.parametrize("bound", ["MAX_RECORDS", "MAX_BYTES"])
def test_what_waits_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    monkeypatch.setattr(log_writer, bound, 3 if bound == "MAX_RECORDS" else 3 * 48)
    log = LogWriter(LocalStore(tmp_path), 1, clock=lambda: 0.0)
    for n in range(7):
        log.add(record(f"u{n}"))
    assert len(log.segments) == 2 and len(records_in(tmp_path)) == 6


def test_a_driver_that_lost_its_lease_writes_nothing(tmp_path: Path) -> None:
    def lost() -> None:
        raise ConflictError("another driver took over")

    log = LogWriter(LocalStore(tmp_path), 1, lost)
    log.add(record("a"))
    with pytest.raises(ConflictError):
        log.flush()
    assert not (tmp_path / "_commits").exists()
    with pytest.raises(StorageError, match="the first"), LogWriter(LocalStore(tmp_path), 1, lost) as log:
        log.add(record("a"))
        raise StorageError("the first error is the one that is raised")
