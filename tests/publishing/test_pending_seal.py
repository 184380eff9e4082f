"""A run with the key that is killed while it makes sealed units again: the next one seals what it left."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.cli import main
from pipeline.publishing.pending_seal import PendingSeal, pending_segments
from pipeline.publishing.seal import PENDING
from pipeline.shards.output.store import LocalStore, open_store
from tests.fixtures.commit_logs import put, records_in
from tests.fixtures.data_sets import contents, findings, write_input, write_recipe

KEY = b"a key of more than sixteen bytes"
KILLED = """
import os, signal, sys
from pathlib import Path
from pipeline.planning.planner import make_plan
from pipeline.planning.recipe_file import load_recipe
from pipeline.publishing import log_writer
from pipeline.publishing.run_options import RunOptions
from pipeline.run import run_plan

log_writer.FLUSH_S = 0.0  # every unit is in the log at once
left = 2

def listen(outcome):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)

plan = make_plan(*load_recipe(sys.argv[1]))
options = RunOptions(units=tuple(plan.units.names()))
run_plan(plan, "inline", "", bytes.fromhex(sys.argv[2]), False, [listen], options)
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A sealed data set of three units."""
    write_input(tmp_path / "data", shards=1, rows=30)
    (tmp_path / "key").write_bytes(KEY)
    recipe = write_recipe(tmp_path)
    assert run(recipe) == 0
    return recipe


def run(recipe: Path) -> int:
    return main(["run", str(recipe), "--executor", "inline", "--key-file", str(recipe.parent / "key")])


def test_what_a_killed_run_made_again_is_said_and_then_sealed(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    made, sealed = contents(out), {path.name for path in (out / "_commits").iterdir()}
    assert not (out / PENDING).exists() and findings(out, KEY) == []
    ended = subprocess.run([sys.executable, "-c", KILLED, str(recipe), KEY.hex()], capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    left = sorted(path.name for path in (out / "_commits").iterdir() if path.name not in sealed)
    assert len(left) == 2 and {record.run for record in records_in(out).values()} == {1, 2}
    said = "not sealed yet: a run with this key wrote it and was ended; the next run seals it"
    named = [finding for finding in findings(out, KEY) if "_commits/" in finding]
    assert named == [f"_commits/{name}: {said}" for name in left]
    assert run(recipe) == 0
    assert findings(out, KEY) == [] and contents(out) == made
    assert not (out / PENDING).exists() and {record.run for record in records_in(out).values()} == {1, 2}


def test_a_forged_segment_beside_it_stays_a_finding(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    record = next(iter(records_in(out).values()))
    pending = PendingSeal(open_store(str(out)), KEY)
    own = put(out, [record.model_copy(update={"run": 2})])
    pending.add(own)
    forged = put(out, [record.model_copy(update={"run": 9})])
    said = {finding for finding in findings(out, KEY) if "not sealed" in finding}
    assert {finding.partition(":")[0] for finding in said} == {own, forged}
    assert f"{forged}: not sealed, so not of the run; move it out of the data set" in said
    assert run(recipe) == 0
    assert f"{forged}: not sealed, so not of the run; move it out of the data set" in findings(out, KEY)
    (out / forged).unlink()
    assert run(recipe) == 0 and findings(out, KEY) == []


def test_the_file_holds_for_its_key_and_as_it_was_written(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    first = PendingSeal(store, KEY)
    first.add("_commits/a.parquet")
    second = PendingSeal(store, KEY)
    second.add("_commits/b.parquet")
    assert pending_segments(store, KEY) == {"_commits/a.parquet", "_commits/b.parquet"} == second.segments
    assert pending_segments(store, b"another key of sixteen bytes") == frozenset()
    written = json.loads((tmp_path / PENDING).read_text())
    (tmp_path / PENDING).write_text(json.dumps({**written, "files": {"_commits/c.parquet": ""}}))
    assert pending_segments(store, KEY) == frozenset()
    second.remove()
    assert not (tmp_path / PENDING).exists() and pending_segments(store, KEY) == frozenset()


def test_without_a_key_nothing_is_written(tmp_path: Path) -> None:
    pending = PendingSeal(LocalStore(tmp_path), None)
    pending.add("_commits/a.parquet")
    pending.remove()
    assert pending.segments == {"_commits/a.parquet"} and [*tmp_path.iterdir()] == []
