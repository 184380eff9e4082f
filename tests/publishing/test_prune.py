"""Adding later: new shards are made; what was made of shards that changed or left is named, and removed if asked."""

from pathlib import Path

import pytest

from jobs.cli import main
from pipeline.errors import ConflictError
from pipeline.publishing.finalise import finalise
from pipeline.publishing.manifest import read_manifest
from pipeline.publishing.prepare import prepare
from pipeline.shards.output.store import open_store
from pipeline.shards.output.unit_files import unit_of
from tests.fixtures.commit_logs import records_in
from tests.fixtures.data_sets import CLASSES, contents, findings, plan_of, rows_of, run_here, write_input, write_recipe
from tests.fixtures.shard_files import photos, write_shard


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A data set of two shards, with originals."""
    write_input(tmp_path / "data", rows=12)
    recipe = write_recipe(tmp_path, output={"keep_originals": True})
    run_here(plan_of(recipe))
    return recipe


def run(recipe: Path, *options: str) -> int:
    return main(["run", str(recipe), "--executor", "inline", *options])


def more(folder: Path, name: str, rows: int = 4, seed: int = 9) -> None:
    ids = [f"{name} {row}" for row in range(rows)]
    write_shard(folder / f"data/{name}.parquet", photos(rows, seed=seed), [0] * rows, ids=ids, class_names=CLASSES)


def test_a_new_shard_makes_only_what_is_missing(recipe: Path, tmp_path: Path) -> None:
    before = contents(tmp_path / "out")
    more(tmp_path, "later")
    manifest, outcomes = run_here(plan_of(recipe))
    assert manifest.complete and len(outcomes) == 2
    assert before.items() <= contents(tmp_path / "out").items()
    assert findings(tmp_path / "out") == []


def test_a_changed_and_a_missing_shard_are_named_and_pruned(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more(tmp_path, "later")
    run_here(plan_of(recipe))
    before = contents(tmp_path / "out")
    (tmp_path / "data/train-00000.parquet").unlink()
    more(tmp_path, "later", rows=5, seed=10)
    assert run(recipe) == 2
    error = capsys.readouterr().err
    assert "shard train-00000.parquet is no longer in the input; shard later.parquet has changed since" in error
    assert "run with --prune to remove what was made of it" in error
    assert contents(tmp_path / "out") == before

    assert run(recipe, "--prune") == 0
    said = capsys.readouterr().err
    assert (
        "shard train-00000.parquet is no longer in the input: what was made of it is removed, 36 images of 4 units"
        in said
    )
    assert "shard later.parquet changed since: what was made of it is removed, 12 images of 2 units" in said
    assert "written again" not in said
    manifest = plan_of(recipe)
    assert {row["source_uri"].rsplit("/", 1)[-1] for row in rows_of(tmp_path / "out")} == {
        "train-00001.parquet",
        "later.parquet",
    }
    assert len(rows_of(tmp_path / "out")) == (12 + 5) * 3
    assert findings(tmp_path / "out") == []
    made, _ = run_here(manifest)
    assert made.complete
    pruned = {each.shard: (each.reason, each.units, each.images) for each in made.pruned}
    assert pruned == {"train-00000.parquet": ("gone", 4, 36), "later.parquet": ("changed", 2, 12)}
    alone = plan_of(recipe, output__uri=str(tmp_path / "alone"))
    run_here(alone)
    assert contents(tmp_path / "out") == contents(tmp_path / "alone")


def test_a_killed_pruning_is_taken_up_again(recipe: Path, tmp_path: Path) -> None:
    """The manifest of the new plan is there already; the log still names what was made of the old shard."""
    from pipeline.publishing.prepare import prepare
    from pipeline.shards.output.store import open_store

    more(tmp_path, "train-00001", rows=7)
    plan = plan_of(recipe)
    prepare(plan, open_store(plan.output), prune=True)
    with pytest.raises(ConflictError, match="--prune"):
        run_here(plan)
    assert run(recipe, "--prune") == 0
    assert findings(tmp_path / "out") == []
    assert len(rows_of(tmp_path / "out")) == (12 + 7) * 3


def test_pruning_does_not_excuse_another_recipe(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "data/train-00000.parquet").unlink()
    before = contents(tmp_path / "out")
    assert run(recipe, "--prune", "--set", "seed=8") == 2
    assert contents(tmp_path / "out") == before


def test_one_branch_is_made_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_input(tmp_path / "data", shards=1, rows=12)
    recipe = write_recipe(tmp_path, output={"keep_originals": True})
    assert run(recipe, "--only", "original") == 0
    assert {record.branch for record in records_in(tmp_path / "out").values()} == {"original"}
    assert "not complete" in capsys.readouterr().err
    assert run(recipe, "--only", "orginal") == 2
    assert "--only orginal: no such branch (did you mean 'original'?)" in capsys.readouterr().err
    assert run(recipe) == 0
    assert findings(tmp_path / "out") == []


def test_units_are_made_again_though_they_are_there(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(tmp_path / "out")
    unit, record = next((unit, each) for unit, each in records_in(tmp_path / "out").items() if each.branch == "flipped")
    path = tmp_path / "out" / record.files["data"].path
    path.write_bytes(path.read_bytes()[:-8] + b"????PAR1")  # of the same size: only `verify` reads it
    assert any("sha256" in finding for finding in findings(tmp_path / "out"))
    assert run_here(plan_of(recipe))[1] == []
    capsys.readouterr()
    assert run(recipe, "--units", unit, "--only", "flipped") == 0
    assert "1 unit to make, as --only and --units say; " in capsys.readouterr().err
    assert contents(tmp_path / "out") == before
    assert findings(tmp_path / "out") == []
    assert run(recipe, "--units", "nobody") == 2
    assert run(recipe, "--units", unit, "--only", "original") == 2
    assert "none of the units that --units names is of these branches" in capsys.readouterr().err


def test_a_prune_that_is_cut_short_leaves_readers_right_and_the_next_run_ends_it(recipe: Path, tmp_path: Path) -> None:
    """Killed once the manifest says `complete`, before segments that were merged are removed."""
    out, before = tmp_path / "out", records_in(tmp_path / "out")
    (tmp_path / "data/train-00000.parquet").unlink()
    plan = plan_of(recipe)
    store = open_store(plan.output)
    prepared = prepare(plan, store, prune=True)
    assert finalise(plan, store, prepared.run, prepared.pruned).manifest.complete
    left = {record.unit for record in before.values() if record.shard == "train-00001.parquet"}
    assert {unit_of(path) for path in contents(out, "data")} == left
    assert {*records_in(out)} == {*before}  # by the segments of before, which are still there
    assert run(recipe) == 0
    assert {*records_in(out)} == left and findings(out) == []
    (pruned,) = read_manifest(store).pruned
    assert (pruned.shard, pruned.units) == ("train-00000.parquet", len(before) - len(left))
