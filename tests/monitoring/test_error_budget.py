"""The error budget: a run beyond it stops, ends with exit 1 and says why; a run within it is not changed."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pipeline.registry
from jobs.cli import main
from pipeline.contracts import Applied, Draws, ImageBatch, Operator, Parameters
from pipeline.monitoring.error_budget import allowed
from pipeline.noise import Noise
from pipeline.plan import Plan
from tests.fixtures.commit_logs import records_in
from tests.fixtures.data_sets import FLIP, contents, plan_of, rows_of, write_recipe
from tests.fixtures.shard_files import photos, write_shard


class BuggyParams(Parameters):
    """Fails on every image whose seed leaves a rest below `of_ten` when divided by ten."""

    of_ten: int = 9


class Buggy(Operator):
    """An operator with a bug that shows on some images only."""

    name = "buggy"
    version = 1
    source = "this test"
    Params = BuggyParams
    uses_torch = False

    def draw(self, batch: ImageBatch) -> Draws:
        return Draws({"rest": [seed % 10 for seed in batch.seeds]})

    def apply(self, batch: ImageBatch, draws: Draws, noise: Noise) -> Applied:
        assert batch.images is not None
        for rest in draws.columns["rest"]:
            if rest < self.params.of_ten:
                raise KeyError("a key that nobody set" + "x" * 10_000)
        return Applied(255 - batch.images)


@pytest.fixture(autouse=True)
def buggy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(pipeline.registry.OPERATORS, "buggy", "tests.monitoring.test_error_budget:Buggy")
    yield


def images(good: int, bad: int) -> list[bytes | None]:
    """Return `good` photos and then `bad` rows that hold no image."""
    return [*photos(good), *[b"no image"] * bad]


def shard(folder: Path, good: int, bad: int, name: str = "a") -> None:
    write_shard(folder / f"data/{name}.parquet", images(good, bad), labels=[0] * (good + bad))


def run(recipe: Path, *more: str) -> int:
    return main(["run", str(recipe), "--executor", "inline", *more])


@pytest.mark.parametrize(("good", "bad", "status"), [(7, 1, 0), (0, 1, 1), (6, 2, 1), (38, 2, 0), (37, 3, 1)])
def test_a_share_beyond_the_budget_is_exit_1_though_every_unit_is_there(
    tmp_path: Path, good: int, bad: int, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    shard(tmp_path, good, bad)
    recipe = write_recipe(tmp_path)
    assert run(recipe) == status
    errors = capsys.readouterr().err
    assert ("beyond quality.max_quarantined_share (0.05)" in errors or "made nothing" in errors) == bool(status)
    assert "not_an_image" in errors
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["complete"] is True
    assert main(["verify", str(tmp_path / "out")]) == 0
    assert run(recipe) == status  # nothing is missing, and the result is the same


def test_rows_that_may_be_in_quarantine() -> None:
    assert [allowed(0.05, rows) for rows in (0, 1, 19, 20, 39, 40, 1000)] == [1, 1, 1, 1, 1, 2, 50]
    assert [allowed(0.0, rows) for rows in (0, 1000)] == [0, 0]
    assert allowed(1.0, 8) == 8 and allowed(0.29, 100) == 29


def test_an_operator_with_a_bug_stops_the_run_early_and_says_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shard(tmp_path, 512, 0)
    branch = {"name": "buggy", "copies": 1, "operators": [{"buggy": {}}]}
    recipe = write_recipe(tmp_path, [branch], output={"rows_per_unit": 64})
    assert run(recipe) == 1
    assert len(records_in(tmp_path / "out")) == 1  # 57 of 64: no more can come back within 5 %
    errors = capsys.readouterr().err
    assert "branch 'buggy': " in errors and "of 64 rows" in errors
    assert "raise KeyError(" in errors and "test_error_budget.py" in errors  # the traceback, short
    assert "operator_failed" in errors
    assert max(map(len, errors.splitlines())) < 700
    (record,) = (tmp_path / "out/_failed/rows").glob("*.json")
    assert record.name == "buggy-operator_failed-buggy.json"
    kind = json.loads(record.read_text())
    assert (kind["branch"], kind["code"], kind["part"]) == ("buggy", "operator_failed", "buggy")
    assert "Traceback (most recent call last)" in kind["traceback"] and "in apply" in kind["traceback"]
    row = rows_of(tmp_path / "out", "quarantine")[0]
    assert kind["source_row"] == row["source_row"] and kind["error"] == row["error_message"]
    assert "Traceback" not in row["error_message"] and len(row["error_message"]) <= 500


def test_a_resumed_run_beyond_its_budget_says_so_at_once_until_the_recipe_allows_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shard(tmp_path, 20, 20, "a")
    shard(tmp_path, 40, 0, "b")
    recipe = write_recipe(tmp_path)  # units of 10: the first two are good
    assert run(recipe) == 1
    made = contents(tmp_path / "out")
    assert len(records_in(tmp_path / "out")) == 3
    capsys.readouterr()
    assert run(recipe) == 1
    assert "10 of 30 rows (33.3%) are in quarantine" in capsys.readouterr().err
    assert contents(tmp_path / "out") == made
    assert run(recipe, "--set", "quality.max_quarantined_share=0.25") == 0
    assert "3 of 8 units are done already" in capsys.readouterr().err
    after = contents(tmp_path / "out")
    assert {name: after[name] for name in made} == made
    assert main(["verify", str(tmp_path / "out")]) == 0


def digests(plan: Plan) -> list[str]:
    return [unit.digest for unit in plan.units]


def test_the_budget_is_in_no_digest(tmp_path: Path) -> None:
    shard(tmp_path, 8, 0)
    recipe = write_recipe(tmp_path)
    before = digests(plan_of(recipe))
    assert digests(plan_of(recipe, quality__max_quarantined_share="1", quality__max_failed_units="0")) == before


@pytest.mark.parametrize(
    ("branch", "quality", "said"),
    [
        ({"where": "label == 7"}, {}, r"its where, 'label == 7', matches none of 8 rows"),
        ({}, {"gates": [{"sharpness": {"min_ratio": 1e9}}]}, "16 of 16 images were rejected: sharpness 16"),
    ],
)
def test_a_branch_that_made_nothing_is_exit_1_with_the_reason(
    tmp_path: Path, branch: dict[str, Any], quality: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shard(tmp_path, 8, 0)
    empty = {**FLIP, "name": "empty", **branch}
    recipe = write_recipe(tmp_path, [empty], quality=quality, output={"keep_originals": True})
    assert run(recipe) == 1  # the originals are there, and nobody runs this for them alone
    errors = capsys.readouterr().err
    assert f"palimpsest: branch 'empty' made nothing: {said}" in errors
    assert json.loads((tmp_path / "out/manifest.json").read_text())["branches"]["original"]["accepted"] == 8


def test_a_preview_may_hold_nothing_of_one_branch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_shard(tmp_path / "data/a.parquet", list(photos(8)), labels=[0] * 4 + [1] * 4)
    recipe = write_recipe(tmp_path, [FLIP, {**FLIP, "name": "ones", "where": "label == 1"}])
    assert run(recipe, "--limit", "4") == 0
    assert run(recipe, "--output", str(tmp_path / "whole")) == 0
    capsys.readouterr()
    only = write_recipe(tmp_path, [{**FLIP, "where": "label == 1"}])
    assert run(only, "--limit", "4", "--output", str(tmp_path / "only")) == 1
    errors = capsys.readouterr().err
    assert "its where, 'label == 1', matches none of the first 4 rows (--limit); raise it" in errors
    assert " images in " not in errors  # nothing was made, whatever was planned


def test_a_split_that_a_preview_does_not_reach_is_told_as_the_recipe_says_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_shard(tmp_path / "data/a.parquet", list(photos(8)), labels=[0] * 8)
    table = pq.read_table(path)
    pq.write_table(table.append_column("split", pa.array(["train"] * 4 + ["test"] * 4)), path)
    assert run(write_recipe(tmp_path, input={"split": "test"}), "--limit", "4") == 1
    errors = capsys.readouterr().err
    assert "made nothing: input.split: test, matches none of the first 4 rows (--limit); raise it" in errors


def test_every_row_in_quarantine_is_exit_1_with_the_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shard(tmp_path, 0, 4)
    assert run(write_recipe(tmp_path), "--set", "quality.max_quarantined_share=1") == 1
    errors = capsys.readouterr().err
    assert "branch 'flipped' made nothing: 4 of 4 rows are in quarantine: not_an_image 4; mend that" in errors
    assert "the first causes:\nflipped not_an_image: " in errors


def test_the_causes_are_those_of_the_branch_beyond_its_share_the_most_frequent_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken_shards(tmp_path, 1, "0")  # its unit fails first, and is not what stops the run
    write_shard(tmp_path / "data/a.parquet", [*photos(4), b"", b"no image", b"nor this"], labels=[0] * 7)
    (tmp_path / "out/_failed/rows").mkdir(parents=True)
    for name in ("_failed/notes.txt", "_failed/rows/.nfs1"):  # somebody else's
        (tmp_path / "out" / name).write_text("mine")
    assert run(write_recipe(tmp_path, [{**FLIP, "where": "label == 0"}])) == 1
    errors = capsys.readouterr().err
    assert "beyond quality.max_quarantined_share" in errors
    causes = errors[errors.index("the first causes:") :]
    assert causes.index("flipped not_an_image: ") < causes.index("flipped empty_image: ")
    assert "flipped-0" not in causes
    assert (tmp_path / "out/_failed/notes.txt").read_text() == "mine"


def broken_shards(folder: Path, count: int, names: str) -> None:
    for index in range(count):
        path = write_shard(folder / f"data/{names}{index:02d}.parquet", list(photos(8)), labels=[0] * 8)
        data = bytearray(path.read_bytes())
        data[200:3000] = bytes(2800)  # the footer is whole, the pages are not
        path.write_bytes(data)


def test_a_run_of_which_every_unit_fails_stops_with_the_third(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken_shards(tmp_path, 5, "a")
    recipe = write_recipe(tmp_path)
    assert run(recipe) == 1
    errors = capsys.readouterr().err
    assert "3 units failed and none made: more than quality.max_failed_units (2) allows" in errors
    assert errors.count("Traceback (most recent call last)") == 3
    records = sorted((tmp_path / "out/_failed").glob("*.json"))
    assert len(records) == 3
    for record in records:
        assert "UnitError" in json.loads(record.read_text())["traceback"]
    assert run(recipe, "--set", "quality.max_failed_units=100") == 1
    assert len(list((tmp_path / "out/_failed").glob("*.json"))) == 5


def test_failed_units_beyond_the_number_of_the_recipe_stop_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shard(tmp_path, 8, 0, "0")
    broken_shards(tmp_path, 4, "a")
    assert run(write_recipe(tmp_path, quality={"max_failed_units": 1})) == 1
    assert "2 units failed and 1 made: more than quality.max_failed_units (1) allows" in capsys.readouterr().err
    assert len(list((tmp_path / "out/_failed").glob("*.json"))) == 2
