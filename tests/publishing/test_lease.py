"""The lease of an output: a second driver is refused and told who holds it, and a dead driver holds nothing."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pipeline.errors import ConflictError, StorageError
from pipeline.publishing import lease as leases
from pipeline.publishing.lease import Lease
from pipeline.shards.output.process_identity import ProcessIdentity
from pipeline.shards.output.store import open_store
from tests.fixtures.data_sets import contents, plan_of, run_here, write_input, write_recipe
from tests.jobs.test_cli import palimpsest

HOLD = """
import sys, time
from pipeline.publishing.lease import Lease
from pipeline.shards.output.store import open_store
with Lease(open_store(sys.argv[1])) as lease:
    lease.take()
    print("held", flush=True)
    time.sleep(60)
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    found = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert found.stdout is not None
    with found.stdout as said:
        assert said.readline() == "held\n"
    return found


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "_tmp").iterdir())


def test_a_live_holder_is_named_and_a_dead_one_is_followed(tmp_path: Path) -> None:
    other = holder(tmp_path)
    store = open_store(str(tmp_path))
    try:
        with Lease(store) as lease, pytest.raises(ConflictError, match=rf"process {other.pid} on .* since .*stop it"):
            lease.take()
        assert "driver-000001.json" in names(tmp_path)  # whoever was refused removes nothing
    finally:
        other.kill()
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # a zombie is left: it holds nothing either
    with Lease(store) as lease:
        lease.take()
        assert [name for name in names(tmp_path) if name.startswith("driver")] == ["driver-000002.json"]
        lease.check()
    other.wait()
    assert names(tmp_path) == []


def test_whoever_was_taken_over_from_is_told_and_leaves_the_other_alone(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    with Lease(store) as first:
        first.take()
        (tmp_path / "_tmp/driver-000001.json").unlink()  # what a takeover does
        with Lease(store) as second:
            second.take()
            with pytest.raises(ConflictError, match="took over"):
                first.check()
            assert first.lost
            first.__exit__(None, None, None)
            second.check()


def test_a_folder_that_was_removed_is_not_taken_for_another_driver(tmp_path: Path) -> None:
    with Lease(open_store(str(tmp_path / "out"))) as lease:
        lease.take()
        shutil.rmtree(tmp_path / "out")
        with pytest.raises(StorageError, match=r"out: was removed or lost while this run wrote there.*run again"):
            lease.check()
        assert lease.lost


def test_a_holder_on_another_machine_lives_while_it_renews(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "HEARTBEAT_S", 0.2)
    monkeypatch.setattr(leases, "HEARTBEAT_TIMEOUT_S", 60.0)  # the first heartbeat that is seen ends the wait
    threads = {*threading.enumerate()}
    elsewhere = ProcessIdentity("faraway", "0" * 12, 1, "1")
    store = open_store(str(tmp_path))
    with Lease(store) as there:
        with monkeypatch.context() as patch:
            patch.setattr(leases.ProcessIdentity, "here", classmethod(lambda cls: elsewhere))
            there.take()
        with Lease(store) as here, pytest.raises(ConflictError, match="process 1 on faraway"):
            here.take()
        there._released.set()
        for thread in {*threading.enumerate()} - threads:
            thread.join()  # it is silent from now on
        monkeypatch.setattr(leases, "HEARTBEAT_TIMEOUT_S", 0.5)
        with Lease(store) as here:
            here.take()
            with pytest.raises(ConflictError):
                there.check()


def test_a_second_run_names_the_first_and_loses_nothing(tmp_path: Path) -> None:
    write_input(tmp_path / "data", rows=24)
    recipe = write_recipe(tmp_path, output={"rows_per_unit": 2})
    run_here(plan_of(recipe, output__uri=str(tmp_path / "alone")))
    arguments = [sys.executable, "-m", "jobs", "run", str(recipe), "--executor", "inline"]
    first = subprocess.Popen(arguments, stderr=subprocess.DEVNULL)
    while not list((tmp_path / "out/_tmp").glob("driver-*")):
        time.sleep(0.01)
    os.kill(first.pid, signal.SIGSTOP)
    try:
        second = palimpsest("run", str(recipe), "--executor", "inline")
    finally:
        os.kill(first.pid, signal.SIGCONT)
    assert second.returncode == 2
    assert f"process {first.pid} on" in second.stderr and len(second.stderr.strip().splitlines()) == 1
    assert first.wait(60) == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "alone")
    assert not list((tmp_path / "out/_tmp").glob("*"))
