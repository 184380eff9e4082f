"""SIGKILL at any moment, then the same command again: the data set is the same, byte for byte."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster.processes import descendants, kill_all, unit_actors
from tests.cluster.runs import ROOT, Run
from tests.fixtures.commit_logs import records_in
from tests.fixtures.data_sets import contents, plan_of, rows_of, run_here, write_input, write_recipe

SEED = int(os.environ.get("PALIMPSEST_KILL_SEED", time.time_ns() % 1_000_000))
UNITS = 120
"""Of which the kills happen in the first half, so that no run is done before: a unit takes some milliseconds."""


started: list[Run] = []


def start(recipe: Path, *options: str) -> Run:
    started.append(Run(recipe, *options))
    return started[-1]


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """No run outlives its test."""
    print(f"PALIMPSEST_KILL_SEED={SEED}")  # shown where the test fails
    yield
    for run in started:
        if run.process.poll() is None:
            run.kill()
    started.clear()


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    write_input(tmp_path / "data", shards=2, rows=UNITS)
    path = write_recipe(tmp_path, output={"rows_per_unit": 2}, resources={"flipped": {"actors": 2}})
    run_here(plan_of(path, output__uri="undisturbed"))
    return path


def check(recipe: Path) -> None:
    """The data set is whole: `verify` says so, and nothing differs from the run that nobody disturbed."""
    out = recipe.parent / "out"
    verified = subprocess.run(
        [sys.executable, "-m", "jobs", "verify", str(out)], cwd=ROOT, capture_output=True, text=True
    )
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert contents(out) == contents(recipe.parent / "undisturbed")
    assert not list((out / "_failed").glob("*"))


@pytest.mark.slow
def test_killed_runs_go_on_where_they_ended(recipe: Path) -> None:
    draw = random.Random(SEED)
    run = start(recipe)
    run.wait_for_units(draw.randint(1, UNITS // 8))
    kill_all([draw.choice(unit_actors(run.process.pid))])  # one actor: Ray brings it back
    run.wait_for_units(len(run.units()) + draw.randint(2, UNITS // 8))
    time.sleep(draw.uniform(0, 0.1))
    run.kill()
    committed = {path: path.stat().st_mtime_ns for path in (run.out / "data").glob("*.parquet")}
    assert 0 < len(committed) < UNITS

    run = start(recipe)
    run.wait_for_units(len(committed) + 1)
    run.kill()

    run = start(recipe)
    assert run.finish() == 0, run.log.read_text()
    assert "Traceback" not in run.log.read_text()
    assert {path: path.stat().st_mtime_ns for path in committed} == committed  # what was done was left alone
    check(recipe)


@pytest.mark.slow
def test_every_family_with_marks_survives_two_kills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALIMPSEST_KEY", "a key for this test alone")
    demo = yaml.safe_load((ROOT / "jobs/recipes/demo.yaml").read_text())
    demo["output"] |= {"uri": "out", "rows_per_unit": 4}
    for branch in demo["branches"]:
        if "per_class" in branch:
            branch["per_class"] = 2
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(demo))
    undisturbed = Run(recipe, "--limit", "24", "--executor", "inline", "--output", str(tmp_path / "undisturbed"))
    assert undisturbed.finish() == 0, undisturbed.log.read_text()
    whole = len(records_in(tmp_path / "undisturbed"))

    draw = random.Random(SEED)
    for limit in (whole // 2, whole - 1):
        run = start(recipe, "--limit", "24")
        done = len(run.units())
        run.wait_for_units(draw.randint(done + 1, max(done + 1, limit)))
        run.kill()
    run = start(recipe, "--limit", "24")
    assert run.finish() == 0, run.log.read_text()
    assert {row["branch"] for row in rows_of(run.out)} == {"original", *(one["name"] for one in demo["branches"])}
    check(recipe)


@pytest.mark.slow
def test_ctrl_c_stops_the_run_quietly(recipe: Path) -> None:
    run = start(recipe)
    run.wait_for_units(3)
    below = descendants(run.process.pid)
    for _ in range(2):  # people press it twice
        os.killpg(run.process.pid, signal.SIGINT)
    assert run.finish() == 130
    text = run.log.read_text()
    assert "the same command goes on" in text
    assert "Traceback" not in text
    assert "WARNING" not in text
    run.wait_for_the_end_of(set(below))
