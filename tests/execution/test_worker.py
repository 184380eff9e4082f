"""A worker and its units: which failures are tried again, and after how long."""

import time
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from pipeline.execution import worker
from pipeline.execution.job import Job
from pipeline.messages import unit_in_hand
from pipeline.publishing.prepare import prepare
from pipeline.shards.output.store import open_store
from schemas.manifest import Failure, UnitRecord
from tests.fixtures.data_sets import plan_of, run_here, write_input, write_recipe


class Refusing(MemoryFileSystem):
    """A server that refuses the next connections."""

    protocol = "refusing"
    left = 0

    def _open(self, *arguments: Any, **options: Any) -> Any:
        if Refusing.left > 0:
            Refusing.left -= 1
            raise ConnectionRefusedError("refused")
        return super()._open(*arguments, **options)


@pytest.mark.parametrize(("refused", "ends"), [(2, UnitRecord), (3, Failure)])
def test_a_unit_of_a_shard_on_a_server_that_refuses_is_tried_again_after_a_while(
    tmp_path: Path, refused: int, ends: type, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fsspec.register_implementation("refusing", Refusing, clobber=True)
    monkeypatch.setattr(worker, "PAUSE_S", 0.02)
    (shard,) = write_input(tmp_path / "data", shards=1, rows=4).iterdir()
    uri = "refusing://served/a.parquet"
    fsspec.filesystem("refusing").pipe_file(uri, shard.read_bytes())
    plan = plan_of(write_recipe(tmp_path), input__uri=uri)
    prepare(plan, open_store(plan.output))
    began, Refusing.left = time.monotonic(), refused
    retries: list[str] = []
    (unit,) = plan.units
    one = worker.Worker(Job.of(plan), plan.branches[0], on_retry=lambda: retries.append(unit_in_hand()))
    outcome = one.run(unit)
    assert type(outcome) is ends and Refusing.left == 0
    assert time.monotonic() - began >= 0.02 + 0.08
    assert retries == [unit.name] * 2
    assert [record.levelname for record in caplog.records] == ["WARNING"] * refused
    for attempt, record in enumerate(caplog.records, start=1):
        fields = record.fields  # type: ignore[attr-defined]
        assert (fields["unit"], fields["branch"], fields["attempt"]) == (unit.name, "flipped", attempt)
        assert "ConnectionRefusedError: refused" in fields["traceback"]
    if isinstance(outcome, Failure):
        assert outcome.branch == "flipped"
        assert "ConnectionRefusedError: refused" in outcome.error and "Traceback" in outcome.traceback
        assert run_here(plan)[0].complete
