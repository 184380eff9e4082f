"""The status of a data set: complete, running here or on another machine, stopped, with failures and their reasons."""

import json
from pathlib import Path

import fsspec
import pytest

import palimpsest
from jobs.cli import main
from pipeline.execution.job import Job
from pipeline.execution.worker import run_inline
from pipeline.plan import Plan
from pipeline.publishing import lease as leases
from pipeline.publishing.lease import Lease
from pipeline.publishing.log_writer import LogWriter
from pipeline.publishing.prepare import prepare
from pipeline.publishing.status import dataset_status
from pipeline.run import run_plan
from pipeline.shards.output.process_identity import ProcessIdentity
from pipeline.shards.output.store import open_store
from schemas.manifest import Failure, UnitRecord
from tests.fixtures.data_sets import FLIP, plan_of, run_here, write_input, write_recipe
from tests.fixtures.shard_files import photos, write_shard

TWO = [FLIP, {**FLIP, "name": "once", "copies": 1}]


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Four units of 10 rows, two of each branch."""
    write_input(tmp_path / "data", shards=1, rows=20)
    return plan_of(write_recipe(tmp_path, TWO))


def test_what_is_complete(plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    run_here(plan)
    found = palimpsest.status(plan.output)
    assert (found.state, found.planned, found.done, found.failed, found.driver) == ("complete", 4, 4, 0, None)
    figures = {name: (branch.planned, branch.counts.units) for name, branch in found.branches.items()}
    assert figures == {"flipped": (2, 2), "once": (2, 2)}
    assert (found.branches["flipped"].counts.accepted, found.counts.accepted) == (40, 60)
    assert main(["status", plan.output]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "complete: 4 of 4 units done, 0 failed",
        "branch  flipped: 2/2 units, 40 images accepted, 0 rejected, 0 rows in quarantine",
        "branch  once: 2/2 units, 20 images accepted, 0 rejected, 0 rows in quarantine",
    ]


def test_counts_and_reasons_are_those_of_the_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_shard(tmp_path / "data/a.parquet", [*photos(27), b"no image", b"", b"none either"], labels=[0] * 30)
    manifest, _ = run_here(plan_of(write_recipe(tmp_path, TWO)))
    found = palimpsest.status(tmp_path / "out")
    assert found.counts == manifest.counts
    assert {name: branch.counts for name, branch in found.branches.items()} == manifest.branches
    assert found.counts.quarantine_reasons == {"not_an_image": 4, "empty_image": 2}
    main(["status", str(tmp_path / "out")])
    assert "reasons flipped: not_an_image 2, empty_image 1\n" in capsys.readouterr().out


def test_what_was_stopped_says_what_failed(plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    store = open_store(plan.output)
    with LogWriter(store, prepare(plan, store).run) as log:
        for outcome in run_inline(Job.of(plan), plan.branches, plan.units[:1]):
            log.add(outcome)
    for unit in plan.units[:2]:  # the first was made since
        failure = Failure(
            unit=unit.name, branch=unit.branch, rows=unit.rows, digest=unit.digest, attempts=3,
            error="out of \x1b memory", traceback="Trace",
        )  # fmt: skip
        store.write(f"_failed/{unit.name}.json", failure.model_dump_json().encode())
    assert main(["status", plan.output]) == 1
    text = capsys.readouterr().out
    assert text.startswith("stopped: 1 of 4 units done, 1 failed\n")
    assert f"failed  {plan.units[1].name}: out of \\x1b memory\n" in text
    assert text.endswith("note    nobody is at work there; the same command goes on where it ended\n")
    assert main(["status", plan.output, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["state"], found["units"]) == ("stopped", {"planned": 4, "done": 1, "failed": 1})
    assert [(each["unit"], each["traceback"]) for each in found["failures"]] == [(plan.units[1].name, "Trace")]
    assert found["branches"]["flipped"]["planned"] == 2


def test_where_there_is_no_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(tmp_path)]) == 2
    assert "no manifest.json here" in capsys.readouterr().err


def test_while_a_run_goes_on(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "HEARTBEAT_S", 0.02)
    monkeypatch.setattr("pipeline.publishing.log_writer.FLUSH_S", 0.0)
    seen = []

    def look(outcome: UnitRecord | Failure) -> None:
        while (found := palimpsest.status(plan.output)).driver is None or found.driver.images_per_s == 0:
            pass
        seen.append((found.state, found.done, found.ok, found.driver.pid == ProcessIdentity.here().pid))

    run_plan(plan, "inline", "local", progress=False, listeners=[look])
    assert seen == [("running", done, True, True) for done in (1, 2, 3, 4)]
    assert palimpsest.status(plan.output).state == "complete"


def test_a_driver_on_another_machine_is_watched(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "HEARTBEAT_S", 0.1)
    monkeypatch.setattr(leases, "HEARTBEAT_TIMEOUT_S", 0.5)
    elsewhere = ProcessIdentity("faraway", "0" * 12, 7, "1")
    store = open_store(plan.output)
    with Lease(store, lambda: {"images_per_s": 2.5, "units_per_min": 15, "over_s": 300.0, "more": "?"}) as lease:
        with monkeypatch.context() as patch:
            patch.setattr(leases.ProcessIdentity, "here", classmethod(lambda cls: elsewhere))
            prepare(plan, store, lease)
        found = dataset_status(store)
        assert found.state == "running" and found.driver is not None
        assert (found.driver.host, found.driver.pid, found.driver.images_per_s) == ("faraway", 7, 2.5)
        lease._released.set()  # it is silent from now on
        assert dataset_status(store).state == "stopped"


def test_in_an_object_store(plan: Plan) -> None:
    run_here(plan)
    uri = f"memory://status-{id(plan)}"
    fsspec.filesystem("memory").put(plan.output, uri, recursive=True)
    assert palimpsest.status(uri).counts == palimpsest.status(plan.output).counts
