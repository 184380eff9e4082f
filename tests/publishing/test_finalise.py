"""Outputs that a run may write, and files that a killed run leaves there."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import pipeline.publishing.prepare
from jobs.cli import main
from pipeline.errors import ConflictError, InputError, RecipeError
from pipeline.publishing.finalise import finalise
from pipeline.publishing.prepare import prepare
from pipeline.shards.output.process_identity import ProcessIdentity
from pipeline.shards.output.store import LocalStore, Store, open_store
from tests.fixtures.commit_logs import forget, put, records_in, rewrite_log, unit_at
from tests.fixtures.data_sets import contents, plan_of, publish, run_here, write_input, write_recipe


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_input(tmp_path / "data", shards=1, rows=12)
    return tmp_path


@pytest.mark.parametrize("name", ["README.md", "manifest.json", "report/index.html", "_mine/x", "recipe.yaml"])
def test_a_folder_of_somebody_else_stays_as_it_was(folder: Path, name: str) -> None:
    path = folder / "out" / name
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    with pytest.raises(ConflictError, match="choose another output, or empty it"):
        run_here(plan_of(write_recipe(folder)))
    assert [each for each in (folder / "out").rglob("*") if each.is_file()] == [path]
    assert path.read_text() == "{}" and not (folder / "out/_tmp").exists()


def test_hidden_files_make_no_folder_somebody_elses(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out/.gitignore").write_text("*")
    assert run_here(plan_of(write_recipe(folder)))[0].complete


def test_a_strange_data_file_is_told_before_anything_is_made(folder: Path) -> None:
    plan = plan_of(write_recipe(folder))
    run_here(plan)
    (folder / "out/data/mine.parquet").write_bytes(b"x")
    with pytest.raises(ConflictError, match=r"data/mine\.parquet.*no record"):
        prepare(plan, open_store(plan.output))


def test_files_without_a_record_are_gone_before_the_manifest_says_complete(folder: Path) -> None:
    """A run that is killed before its seal must not leave a complete data set in which files hold images twice."""
    plan = plan_of(write_recipe(folder))
    run_here(plan)
    before = contents(folder / "out")
    first = sorted((folder / "out/data").iterdir())[0]
    pq.write_table(pq.read_table(first), folder / "again.parquet", compression="gzip")
    again = (folder / "again.parquet").read_bytes()
    first.with_name(f"{first.stem[:-16]}{hashlib.sha256(again).hexdigest()[:16]}.parquet").write_bytes(again)
    published = finalise(plan, open_store(plan.output), run=2)
    assert published.manifest.complete
    assert contents(folder / "out") == before


@pytest.mark.parametrize("output", ["data", "data/.", "."])
def test_an_output_that_holds_the_input_is_refused(folder: Path, output: str) -> None:
    plan = plan_of(write_recipe(folder, output={"uri": output}))
    before = sorted(folder.rglob("*"))
    with pytest.raises(RecipeError, match=r"the input shard .* lies in it"):
        prepare(plan, open_store(plan.output))
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("given", ["data", "data/**/*.parquet", "data/*/*/*.parquet"])
def test_an_output_that_the_input_would_find_is_refused(folder: Path, given: str) -> None:
    write_input(folder / "data/more/deep", shards=1, rows=12)
    plan = plan_of(write_recipe(folder, output={"uri": "data/out"}, input={"uri": given}))
    with pytest.raises(RecipeError, match="would find what is written there"):
        prepare(plan, open_store(plan.output))
    assert not (folder / "data/out").exists()


def test_plan_refuses_such_an_output_as_well(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_input(folder / "data/more/deep", shards=1, rows=12)
    assert main(["plan", str(write_recipe(folder, output={"uri": "data/out"}, input={"uri": "data"}))]) == 2
    assert "would find what is written there" in capsys.readouterr().err


def test_an_output_beside_the_shards_that_the_input_does_not_find_is_taken(folder: Path) -> None:
    plan = plan_of(write_recipe(folder, output={"uri": "data/out"}))
    assert not prepare(plan, open_store(plan.output)).done.any()


def test_an_empty_output_is_refused(folder: Path) -> None:
    plan = plan_of(write_recipe(folder, output={"uri": ""}))
    with pytest.raises(RecipeError, match="empty"):
        prepare(plan, open_store(plan.output))


def test_what_a_kill_left_is_taken_up_again(folder: Path) -> None:
    plan = plan_of(write_recipe(folder))
    run_here(plan)
    before = contents(folder / "out")
    for path in (folder / "out").glob("*"):
        if path.is_file():
            path.unlink()
    forget(folder / "out", plan.units[0].name)
    (folder / "out/_tmp/half").mkdir(parents=True)
    (folder / "out/_tmp/half/data.parquet").write_bytes(b"half")
    assert run_here(plan)[0].complete
    assert contents(folder / "out") == before


def test_a_kill_before_the_first_record_or_manifest_is_taken_up_again(folder: Path) -> None:
    plan = plan_of(write_recipe(folder))
    for name in ("_tmp/x/file", "_artifacts/" + "0" * 64, f"data/{plan.units[0].name}-0123456789abcdef.parquet"):
        path = folder / "out" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    assert run_here(plan)[0].complete


def test_the_manifest_is_there_before_any_artifact(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(write_recipe(folder))
    monkeypatch.setattr(pipeline.publishing.prepare, "references", lambda plan: [])
    prepare(plan, open_store(plan.output))
    assert json.loads((folder / "out/manifest.json").read_text())["complete"] is False


def test_a_file_that_no_record_names_and_that_says_nothing_of_its_unit_is_removed(folder: Path) -> None:
    plan = plan_of(write_recipe(folder))
    run_here(plan)
    forget(folder / "out", plan.units[0].name)
    half = folder / f"out/data/{plan.units[0].name}-0123456789abcdef.parquet"
    half.write_bytes(b"half")
    assert not publish(plan, open_store(plan.output)).complete
    assert not half.exists()
    assert [unit_at(path) for path in (folder / "out/data").iterdir()] == [plan.units[1].name]


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-9])])
def test_a_committed_file_that_is_gone_or_cut_is_made_again(
    folder: Path, harm: Callable[[Path], object], published: bool, caplog: pytest.LogCaptureFixture
) -> None:
    plan = plan_of(write_recipe(folder))
    run_here(plan)
    before = contents(folder / "out")
    path = next((folder / "out/data").glob(f"{plan.units[0].name}-*"))
    harm(path)
    if published:
        assert not publish(plan, open_store(plan.output)).complete
    manifest, outcomes = run_here(plan)
    assert manifest.complete and [outcome.unit for outcome in outcomes] == [plan.units[0].name]
    assert contents(folder / "out") == before
    assert f"unit {plan.units[0].name}: data/{path.name}" in caplog.text or (
        f"unit {plan.units[0].name} is made again: data/{path.name}" in caplog.text
    )


def test_staged_files_go_with_their_owner_or_with_age(folder: Path) -> None:
    plan = plan_of(write_recipe(folder))
    tmp = folder / "out/_tmp"
    gone = subprocess.run([sys.executable, "-c", OWN], capture_output=True, text=True, check=True).stdout.strip()
    live = ProcessIdentity.here().prefix
    names = {f"{gone}1": False, f"{live}2": True, f"{'0' * 12}-1-1-3": True, "old-4": False, "new-5": True}
    for name in names:
        (tmp / name).mkdir(parents=True)
        (tmp / name / "data.parquet").write_bytes(b"half")
    for path in (tmp / "old-4", tmp / "old-4/data.parquet"):
        os.utime(path, (0, 0))
    assert run_here(plan)[0].complete
    assert {name: (tmp / name).exists() for name in names} == names


OWN = "from pipeline.shards.output.process_identity import ProcessIdentity; print(ProcessIdentity.here().prefix)"


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/nope"])
def test_an_output_that_cannot_be_written_is_one_line(
    folder: Path, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "file").write_text("mine")
    recipe = write_recipe(folder)
    assert main(["run", str(recipe), "--executor", "inline", "--output", str(folder / place)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "cannot be written" in line
    assert (folder / "file").read_text() == "mine"


def test_a_store_without_credentials_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class NoCredentialsError(Exception):
        pass

    def refuse(self: Store, path: str, data: bytes) -> None:
        raise NoCredentialsError("Unable to locate\ncredentials")

    monkeypatch.setattr(LocalStore, "write", refuse)
    with pytest.raises(InputError, match="cannot be written: NoCredentialsError: Unable to locate credentials"):
        open_store(str(tmp_path)).probe()


def test_the_log_is_listed_once_and_each_segment_opened_a_fixed_number_of_times(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(write_recipe(folder, output={"rows_per_unit": 2}))
    run_here(plan)
    records = [*records_in(folder / "out").values()]
    rewrite_log(folder / "out", lambda record: None)
    for record in records[1:]:
        put(folder / "out", [record])
    asked: list[str] = []
    scan, opened = LocalStore.scan, LocalStore.open
    monkeypatch.setattr(LocalStore, "scan", lambda *given: (asked.append(given[1]), scan(*given))[1])
    monkeypatch.setattr(LocalStore, "open", lambda *given: (asked.append(given[1]), opened(*given))[1])
    manifest = publish(plan, open_store(plan.output))
    assert manifest.complete and [each.units for each in manifest.commits.segments] == [6]
    assert asked.count("_commits") == 1
    segments = {path: asked.count(path) for path in asked if path.startswith("_commits/")}
    (made,) = (each.path for each in manifest.commits.segments)
    assert segments.pop(made) == 1  # for the paths of the files
    # names of units, records, all to be merged; of the unit that was taken up the last alone
    assert sorted(segments.values()) == [1, 3, 3, 3, 3, 3]
