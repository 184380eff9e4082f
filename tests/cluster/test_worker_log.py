"""What a worker logs is in Ray's log files, in JSON lines that name the unit and hold the traceback."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray

from pipeline.cluster.engine import execute
from pipeline.errors import JobError
from pipeline.plan import Plan
from pipeline.publishing.prepare import prepare
from pipeline.registry import OPERATORS
from pipeline.shards.output.store import open_store
from schemas.manifest import Failure
from tests.cluster.probes import REGISTRATION, probe_job
from tests.cluster.test_metrics_export import served
from tests.fixtures.data_sets import plan_of, write_recipe
from tests.fixtures.shard_files import photos, write_shard

pytestmark = pytest.mark.usefixtures("ray_local")
BRANCH = "logged"


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Plan]:
    """A plan of two units; the accident hits the second one."""
    monkeypatch.setitem(OPERATORS, *REGISTRATION)

    def make(what: str) -> Plan:
        for label in range(2):
            write_shard(tmp_path / f"data/{label}.parquet", photos(4, seed=label), labels=[label] * 4)
        branch = {"name": BRANCH, "copies": 1, "operators": [{"probe": {"what": what}}]}
        made = plan_of(write_recipe(tmp_path, [branch], resources={BRANCH: {"actors": 1}}))
        prepare(made, open_store(made.output))
        return made

    return make


def logged(event: str, count: int, **fields: str) -> list[dict[str, Any]]:
    """Return the events of one kind, with these fields, in the log files of Ray's session, once there are `count`."""
    context = ray.get_runtime_context()
    folder = Path(context.get_temp_dir()) / context.get_session_name() / "logs"
    deadline = time.monotonic() + 20
    while True:
        lines = [line for path in folder.glob("worker-*.err") for line in path.read_text().splitlines()]
        found = [json.loads(line) for line in lines if line.startswith("{")]
        found = [line for line in found if line["event"] == event and fields.items() <= line.items()]
        if len(found) >= count or time.monotonic() > deadline:
            return found
        time.sleep(0.1)


def test_every_try_is_logged_and_counted_where_it_fails(plan: Callable[[str], Plan]) -> None:
    asked = plan("fail")
    outcomes = list(execute(probe_job(asked), asked.branches, asked.units))
    (failure,) = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    assert failure.branch == BRANCH
    found = logged("unit_attempt_failed", 3, unit=failure.unit)
    assert [line["attempt"] for line in found] == [1, 2, 3]
    assert {(line["branch"], line["level"]) for line in found} == {(BRANCH, "warning")}
    assert all("MemoryError: no memory for the probe" in line["traceback"] for line in found)
    assert {"node", "pid", "time"} <= set(found[0])
    expected = {("ray_palimpsest_unit_retries_total", ""): 2.0, ("ray_palimpsest_workers", ""): 0.0}
    values = served(expected, BRANCH)
    assert {key: values.get(key) for key in expected} == expected


def test_what_keeps_a_branch_from_loading_is_logged_with_its_traceback(plan: Callable[[str], Plan]) -> None:
    asked = plan("crash_loading")
    with pytest.raises(JobError, match="the weights have another shape"):
        list(execute(probe_job(asked), asked.branches, asked.units))
    found = logged("message", 1, branch=BRANCH, level="error")
    assert found[-1]["message"] == f"branch {BRANCH!r} cannot load"
    assert found[-1]["traceback"].endswith("RuntimeError: the weights have another shape")
