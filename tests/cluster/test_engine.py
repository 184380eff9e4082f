"""The engine on a real local Ray: the same bytes as without it, and every way a worker can go wrong."""

import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from pipeline.cluster import dispatcher
from pipeline.cluster.actor import require_token
from pipeline.cluster.dispatcher import actor_options, reason_of
from pipeline.cluster.engine import execute, planned_pools
from pipeline.cluster.scheduling import Pool
from pipeline.errors import JobError, RunError
from pipeline.plan import BranchPlan, Plan
from pipeline.publishing.prepare import prepare
from pipeline.registry import OPERATORS
from pipeline.shards.output.store import LocalStore, open_store
from schemas.manifest import Failure, UnitRecord
from tests.cluster.probes import REGISTRATION, probe_job
from tests.cluster.processes import unit_actors
from tests.fixtures.data_sets import FLIP, contents, plan_of, publish, run_here, write_input, write_recipe
from tests.fixtures.disks import mounted
from tests.fixtures.shard_files import photos, write_shard

pytestmark = pytest.mark.usefixtures("ray_local")

BRIGHT: dict[str, Any] = {"name": "bright", "copies": 1, "operators": [{"classical": {}}]}
Outcome = UnitRecord | Failure


@pytest.fixture
def probe_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Plan]:
    """Return a plan over three shards, one class each: an accident with class 1 hits exactly one unit of three."""
    monkeypatch.setitem(OPERATORS, *REGISTRATION)

    def make(what: str, actors: int = 1, seconds: float = 0.0) -> Plan:
        for label in range(3):
            write_shard(tmp_path / f"data/{label}.parquet", photos(4, seed=label), labels=[label] * 4)
        probe = {"name": "probed", "copies": 1, "operators": [{"probe": {"what": what, "seconds": seconds}}]}
        return plan_of(write_recipe(tmp_path, [probe], resources={"probed": {"actors": actors}}))

    return make


def run_on_ray(plan: Plan) -> list[Outcome]:
    prepare(plan, open_store(plan.output))
    return list(execute(probe_job(plan), plan.branches, plan.units))


def kinds(outcomes: list[Outcome]) -> dict[str, int]:
    names = [type(outcome).__name__ for outcome in outcomes]
    return {name: names.count(name) for name in set(names)}


@pytest.mark.parametrize(("actors", "branches"), [(1, [FLIP]), (2, [FLIP, BRIGHT])], ids=["1", "2"])
def test_the_same_bytes_as_inline_whatever_the_number_of_actors(
    tmp_path: Path, actors: int, branches: list[dict[str, Any]]
) -> None:
    write_input(tmp_path / "data")
    resources = {branch["name"]: {"actors": actors} for branch in branches}
    recipe = write_recipe(tmp_path, branches, output={"keep_originals": actors == 1}, resources=resources)
    run_here(plan_of(recipe, output__uri="inline"))
    plan = plan_of(recipe)
    outcomes = run_on_ray(plan)
    assert sorted(outcome.unit for outcome in outcomes) == sorted(unit.name for unit in plan.units)
    assert publish(plan, open_store(plan.output)).complete
    expected = contents(tmp_path / "inline")
    assert expected
    assert contents(tmp_path / "out") == expected


@pytest.mark.slow
def test_a_unit_that_kills_its_worker_is_left_out_and_the_others_complete(
    probe_plan: Callable[..., Plan], capfd: pytest.CaptureFixture[str]
) -> None:
    plan = probe_plan("kill")
    outcomes = run_on_ray(plan)
    assert kinds(outcomes) == {"UnitRecord": 2, "Failure": 1}
    (failure,) = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    assert failure.attempts == 3
    assert "died 3 times" in failure.error
    record = open_store(plan.output).read(f"_failed/{failure.unit}.json")
    assert Failure.model_validate_json(record) == failure
    assert not publish(plan, open_store(plan.output)).complete
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err == ""


def test_a_unit_that_fails_is_tried_three_times_and_the_others_complete(probe_plan: Callable[..., Plan]) -> None:
    outcomes = run_on_ray(probe_plan("fail", actors=2))
    assert kinds(outcomes) == {"UnitRecord": 2, "Failure": 1}
    (failure,) = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    assert failure.attempts == 3
    assert "out of memory" in failure.error


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ("unloadable", "models/probe.safetensors: no such file; give its path in the recipe"),
        ("crash_loading", "branch 'probed' cannot load: RuntimeError: the weights have another shape"),
    ],
)
def test_a_branch_that_cannot_load_ends_the_job_with_its_line(
    probe_plan: Callable[..., Plan], what: str, line: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(JobError) as error:
        run_on_ray(probe_plan(what))
    assert str(error.value) == line
    printed = capfd.readouterr()
    assert printed.out + printed.err == ""


@pytest.mark.slow
def test_a_worker_that_dies_while_it_loads_ends_the_job_with_its_line(probe_plan: Callable[..., Plan]) -> None:
    with pytest.raises(JobError) as error:
        run_on_ray(probe_plan("kill_loading"))
    assert (
        f"branch 'probed': a worker died 3 times while it loaded the models, on node {socket.gethostname()}: "
        in str(error.value)
    )


@pytest.mark.slow
def test_a_disk_that_is_full_ends_the_run_with_its_line_and_no_unit_fails(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (96, 120, 180, 3), np.uint8)
    write_shard(tmp_path / "data/a.parquet", list(noise), labels=[0] * 96)
    recipe = write_recipe(tmp_path, output={"uri": "disk/out", "rows_per_unit": 16})
    with mounted(tmp_path / "disk", "4m") as disk:
        with pytest.raises(RunError, match="No space left on device; free some space there"):
            run_on_ray(plan_of(recipe))
        assert not list((disk / "out").glob("_failed/*"))
    printed = capfd.readouterr()
    assert printed.out + printed.err == ""


def test_a_gpu_that_is_not_there_is_an_error_before_anything_starts(probe_plan: Callable[..., Plan]) -> None:
    plan = probe_plan("sleep")
    greedy = [BranchPlan("probed", plan.branches[0].steps, 1, None, 8, None, gpus=3.0)]
    with pytest.raises(JobError, match=r"'probed' asks for 3 GPU an actor and the cluster has 2 GPU"):
        list(execute(probe_job(plan), greedy, plan.units))


def test_two_actors_with_a_gpu_each_see_different_ones() -> None:
    class Seen:
        """Tell the visible device."""

        def device(self) -> str:
            return os.environ["CUDA_VISIBLE_DEVICES"]

    remote: Any = ray.remote(Seen)
    options = actor_options(Pool(BranchPlan("a", (), 1, None, 8, None), 2, 1.0, 1.0))
    both = [remote.options(**options).remote() for _ in range(2)]
    assert sorted(ray.get([actor.device.remote() for actor in both], timeout=60)) == ["0", "1"]


def wait_for(happened: Callable[[], bool], seconds: float = 60) -> None:
    """Return once it happened; fail where it does not."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
def test_closing_stops_the_workers_at_once(probe_plan: Callable[..., Plan]) -> None:
    plan = probe_plan("hang", actors=2, seconds=600.0)
    stream = execute(probe_job(plan), plan.branches, plan.units)
    next(stream)
    wait_for(lambda: bool(unit_actors()))
    started = time.monotonic()
    stream.close()  # type: ignore[attr-defined]  # a generator
    assert time.monotonic() - started < 60  # nobody waited for the unit that hangs
    wait_for(lambda: not unit_actors())
    assert not list((Path(plan.output) / "_tmp").glob("seen-*"))


def test_units_that_are_made_twice_meet_in_the_same_files(probe_plan: Callable[..., Plan]) -> None:
    plan = probe_plan("no_torch")
    first = run_on_ray(plan)
    assert kinds(first) == {"UnitRecord": 3}  # a worker whose operators need no torch imports none
    before = {path: path.read_bytes() for path in Path(plan.output).glob("data/*")}
    again = list(execute(probe_job(plan), plan.branches, plan.units))
    files = [{outcome.unit: outcome.files for outcome in outcomes} for outcomes in (first, again)]
    assert files[0] == files[1]
    assert {path: path.read_bytes() for path in Path(plan.output).glob("data/*")} == before


@pytest.mark.slow
def test_a_cluster_that_others_hold_is_waited_for_and_named(
    probe_plan: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Holder:
        """Hold every CPU."""

    def said() -> list[str]:
        return [record.getMessage() for record in caplog.records if record.name == dispatcher.__name__]

    monkeypatch.setattr(dispatcher, "STALLED_AFTER_S", 0.5)
    monkeypatch.setattr(dispatcher, "LOOK_EVERY_S", 0.5)
    remote: Any = ray.remote(Holder)
    holder = remote.options(num_cpus=6).remote()
    ray.get(holder.__ray_ready__.remote())
    threading.Thread(target=lambda: (wait_for(lambda: bool(said())), ray.kill(holder))).start()
    assert kinds(run_on_ray(probe_plan("sleep"))) == {"UnitRecord": 3}
    assert said() == [
        "no worker of probed was ready for 0.5 s: is the cluster held by another job, or is it slow to start?"
    ]


def test_a_node_with_another_disk_is_named(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.write("_tmp/seen-1", b"")
    require_token(store, "_tmp/seen-1")
    with pytest.raises(JobError, match=r"node \S+ does not see the output folder .*s3://"):
        require_token(store, "_tmp/seen-2")


def test_pools_are_what_the_cluster_has_room_for(probe_plan: Callable[..., Plan]) -> None:
    plan = probe_plan("sleep", actors=2)
    assert [(pool.branch.name, pool.actors) for pool in planned_pools(plan.branches, plan.units)] == [("probed", 2)]


def test_the_reason_is_the_error_that_says_something() -> None:
    fault = RuntimeError("the store is full\nno room for a block")
    fault.__cause__ = OSError()
    assert reason_of(fault) == "RuntimeError: no room for a block"
    fault.__cause__ = OSError("disk")
    assert reason_of(fault) == "OSError: disk"
