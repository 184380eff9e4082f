"""Runs on Ray that are stopped: the documented exit code, one line, a manifest, and no process left."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.processes import descendants, kill_all
from tests.cluster.runs import Run
from tests.fixtures.data_sets import plan_of, run_here, write_input, write_recipe

UNITS = 300  # too many to be done before anything happens


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    write_input(tmp_path / "data", shards=1, rows=UNITS * 2)
    found = Run(write_recipe(tmp_path, output={"rows_per_unit": 2}, resources={"flipped": {"actors": 1}}))
    yield found
    if found.process.poll() is None:
        found.kill()


def end(run: Run, act: Callable[[dict[int, str]], None]) -> tuple[int, str]:
    """Let `act` happen to a run that goes well, with the processes below it; return its exit code and last line."""
    run.wait_for_units(2)
    below = descendants(run.process.pid)
    act(below)
    status = run.finish()
    run.wait_for_the_end_of(set(below))
    text = run.log.read_text()
    assert "Traceback" not in text
    assert "***" not in text  # Ray's native handlers
    lines = text.splitlines()
    assert len([line for line in lines if line.startswith("palimpsest: ")]) == 1, text
    manifest = json.loads((run.out / "manifest.json").read_text())
    assert manifest["complete"] is False
    assert manifest["counts"]["accepted"] >= 2
    assert not (run.out / "report").exists()
    return status, lines[-1]


@pytest.mark.slow
def test_sigterm_ends_it_in_good_order(run: Run) -> None:
    told = end(run, lambda _: os.kill(run.process.pid, signal.SIGTERM))
    assert told == (143, "palimpsest: stopped by SIGTERM; the same command goes on where this one ended")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("process", "name"), [("raylet/raylet", "Ray's raylet on this node"), ("gcs_server", "Ray's control store (GCS)")]
)
def test_a_ray_that_is_killed_is_named(run: Run, process: str, name: str) -> None:
    status, line = end(run, lambda below: kill_all([pid for pid in below if process in below[pid].split(" ")[0]]))
    assert status == 1
    assert line.startswith(f"palimpsest: {name} at 127.0.0.1:")
    assert line.endswith("is gone (killed, or out of memory); the same command goes on where this one ended")
    manifest, made = run_here(plan_of(run.out.parent / "recipe.yaml"))
    assert manifest.complete
    assert 0 < len(made) < UNITS
