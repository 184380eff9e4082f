"""A plan is pure: units and digests follow from what is computed, and from nothing else."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.errors import JobError, RecipeError
from pipeline.execution.job import Job, LoadedBranch
from pipeline.planning.estimate import estimate
from pipeline.shards.reader import read_windows
from tests.fixtures.data_sets import FLIP, plan_of, write_input, write_recipe
from tests.fixtures.shard_files import photos, write_shard

CLASSICAL = {"name": "classic", "copies": 1, "operators": [{"classical": {"policy": "crop_flip"}}]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_input(tmp_path / "data")
    return tmp_path


def digests(recipe: Path, **changes: str) -> dict[str, str]:
    return {unit.name: unit.digest for unit in plan_of(recipe, **changes).units}


def test_units_cover_every_row_once_and_never_cross_a_shard(folder: Path) -> None:
    plan = plan_of(write_recipe(folder, [FLIP, CLASSICAL], output={"keep_originals": True}))
    for branch in ("flipped", "classic", "original"):
        for shard in plan.shards:
            units = [unit for unit in plan.units if unit.branch == branch and unit.shard == shard]
            covered = [row for unit in units for row in range(unit.first, unit.first + unit.rows)]
            assert covered == list(range(shard.rows))
    assert len({unit.name for unit in plan.units}) == len(plan.units)


def test_limit_takes_the_first_rows(folder: Path) -> None:
    plan = plan_of(write_recipe(folder), limit=30)
    assert [unit.rows for unit in plan.units] == [10, 10, 4, 6]


@pytest.mark.parametrize(
    "changes",
    [
        {"output__uri": "/elsewhere"},
        {"resources": "{flip: {actors: 3, cpus: 2}}"},
        {"output__keep_originals": "true"},
    ],
)
def test_where_and_how_fast_change_no_digest(folder: Path, changes: dict[str, str]) -> None:
    recipe = write_recipe(folder)
    before = digests(recipe)
    after = digests(recipe, **changes)
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": "8"},
        {"output__encoding": "jpeg"},
        {"output__size": "16"},
        {"output__channels": "grey"},
        {"numerics__micro_batch": "4"},
        {"numerics__threads": "2"},
        {"numerics__dtype": "bfloat16"},
        {"numerics__tf32": "true"},
        {"branches__flipped__copies": "3"},
        {"branches__flipped__where": "label == 1"},
        {"branches__flipped__operators__flip__probability": "0.25"},
        {"input__max_pixels": "1000"},
    ],
)
def test_what_changes_bytes_changes_every_digest(folder: Path, changes: dict[str, str]) -> None:
    recipe = write_recipe(folder)
    before, after = digests(recipe), digests(recipe, **changes)
    assert before.keys() == after.keys()
    assert not set(before.values()) & set(after.values())


def test_a_digest_follows_the_data_not_its_place(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("moved")
    shutil.copytree(folder / "data", elsewhere / "data")
    assert digests(write_recipe(folder)) == digests(write_recipe(elsewhere))


def test_a_further_shard_or_branch_keeps_the_other_units(folder: Path) -> None:
    before = digests(write_recipe(folder))
    write_shard(folder / "data" / "train-00009.parquet", photos(5, seed=9), labels=[0] * 5, ids=list("abcde"))
    after = digests(write_recipe(folder, [CLASSICAL, FLIP]))
    assert {name: after[name] for name in before} == before
    assert len(after) > len(before)


def test_a_changed_row_changes_its_shards_digests(folder: Path) -> None:
    before = digests(write_recipe(folder))
    write_shard(
        folder / "data" / "train-00001.parquet", photos(24, seed=5), labels=[0] * 24, ids=[str(i) for i in range(24)]
    )
    after = digests(write_recipe(folder))
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {name for name in before if "train-00001" in name}


def branch(**changes: Any) -> dict[str, Any]:
    return {**FLIP, **changes}


@pytest.mark.parametrize(
    ("branches", "sections", "words"),
    [
        ([branch(operators=[{"flop": {}}])], {}, ["branches[0].operators[0]", "'flop'", "'flip'"]),
        ([branch(operators=[{"flip": {"probabilty": 1}}])], {}, ["flip.probabilty", "'probability'"]),
        ([branch(operators=[{"flip": {"probability": 7}}])], {}, ["flip.probability", "7"]),
        ([branch(operators=[{"flip": {}, "classical": {}}])], {}, ["one operator an entry"]),
        ([branch(per_class=3)], {}, ["one of copies, per_class and count"]),
        ([branch(copies=None, per_class=3)], {}, ["flip", "copies of source rows"]),
        (
            [branch(copies=None, count=10**15, operators=[{"gan_synth": {"force": True}}])],
            {"input": {"columns": {"label": "none"}}},
            ["rows_per_unit = 10: 100,000,000,000,000 units"],
        ),
        ([branch(name="original")], {}, ["original", "keep_originals"]),
        ([FLIP, FLIP], {}, ["two branches", "flipped"]),
        ([branch(where="lable == 1")], {}, ["where", "lable", "label"]),
        ([branch(where="label +")], {}, ["where"]),
        ([branch(where="label + 1")], {}, ["not a condition"]),
        ([branch(where="")], {}, ["where", "empty"]),
        ([branch(where="lable == 1")], {}, ["'lable' (did you mean 'label'?)"]),
        (
            [branch(where="label != 'dog'")],
            {},
            ["column 'label' holds numbers, and 'dog' is none", "write 1, the number"],
        ),
        ([branch(where="`label` not in ('cow',)")], {}, ["holds numbers, and 'cow' is none", "write a number"]),
        ([branch(where="label.isin(['dog']) or row > 3")], {}, ["holds numbers, and 'dog' is none"]),
        ([branch(where="id != 7")], {}, ["column 'id' holds texts, and 7 is none", "write a text in quotes"]),
        ([branch(where="zzz == 1")], {}, ["(known: id, label, row)"]),
        ([branch(copies=None, per_class=3, where="label == 1")], {}, ["branches[0].where", "per_class or count"]),
        ([branch(copies=None, count=3, where="label == 1")], {}, ["branches[0].where", "per_class or count"]),
        ([branch(operators=[{"flip": 0}])], {}, ["operators[0].flip = 0"]),
        ([branch(operators=[{"flip": []}])], {}, ["operators[0].flip = []"]),
        ([branch(operators=[{"flip": False}])], {}, ["operators[0].flip = False"]),
        ([branch(operators=[{"flip": ""}])], {}, ["operators[0].flip = ''"]),
        ([FLIP], {"quality": {"gates": [{"blank": 0}]}}, ["gates[0].blank = 0"]),
        ([FLIP], {"resources": {"flp": {"gpus": 1}}}, ["resources.flp", "'flip'"]),
        ([FLIP], {"quality": {"gates": [{"sharp": {}}]}}, ["quality.gates"]),
        ([FLIP], {"input": {"uri": "nothing/*.parquet"}}, ["nothing"]),
        ([FLIP], {"input": {"columns": {"label": "lable"}}}, ["lable", "label"]),
        ([branch(operators=[{"adain_style": {"styles": "no-styles"}}])], {}, ["no-styles"]),
        ([branch(operators=[{"adain_style": {"model": "builtin:nothing"}}])], {}, ["builtin:nothing"]),
    ],
)
def test_what_cannot_work_is_said_before_anything_runs(
    folder: Path, branches: list[dict[str, Any]], sections: dict[str, Any], words: list[str]
) -> None:
    recipe = write_recipe(folder, branches, **sections)
    with pytest.raises(JobError) as caught:
        plan_of(recipe)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "where",
    [
        "row >= row.mean()",
        "label == label.max()",
        "row.rank() > 3",
        "label.duplicated()",
        "row.diff() > 0",
        "row.shift(1) == 2",
        "label.fillna(method='ffill') == 1",
        "id.str.cat() == 'a'",
        "label in row",
        "label in (row, 1)",
        "label > [1, 2]",
        "label == [1, 2]",
        "label + [1, 2] > 2",
        "label.isin(row)",
        "row == row.values[0]",
        "row == row.iloc[0]",
        "row == row[0]",
        "index == 2",
        "max(label) == 2",
        "sum(row) > 2",
        "@pd.isna(label)",
        "label.map(lambda x: x == 1)",
        "[row for row in label]",
        "label == row.size",
        "id.str == 'a'",
        "label = 1",
        "label is 1",
    ],
)
def test_a_where_that_looks_at_other_rows_is_refused(folder: Path, where: str) -> None:
    with pytest.raises(RecipeError, match="branch 'flipped': where = ") as caught:
        plan_of(write_recipe(folder, [branch(where=where)]))
    assert "\n" not in str(caught.value)
    assert str(caught.value).count(" label,") <= 1


@pytest.mark.parametrize(
    ("where", "rows"),
    [
        ("label in (0, 2) and not row > 2", [0, 2]),
        ("1 <= row < 3\n", [1, 2]),
        ("(row == 1) | (row == 3)", [1, 3]),
        ("row % 2 == 0 and score > 0", [2]),
        ("score.isna()", [1, 3]),
        ("not score.isna()", [0, 2]),
        ("score != 7", [0, 2]),
        ("not flag", [2]),
        ("id.str.startswith('0-') and row.between(1, 2)", [1, 2]),
        ("`its name`.str.lower().str.contains('A', case=False)", [0, 2]),
        ("`its name` == 'a`b`c'", []),
        ("label not in [-1, 0, 1]", [2]),
        ("label.isin([2]) or abs(score) > 0.5", [0, 2]),
        ("score.fillna(9) == 9", [1, 3]),
        ("taken.dt.year > 1970", [3]),
        ("True", [0, 1, 2, 3]),
    ],
)
@pytest.mark.parametrize("copies", [1, 64])
def test_a_where_takes_the_same_rows_however_many_are_looked_at(
    tmp_path: Path, where: str, rows: list[int], copies: int
) -> None:
    extra = {
        "score": pa.array([-1.0, None, 1.0, None]),
        "flag": pa.array([True, None, False, None]),
        "its name": pa.array(["a", None, "A", None]),
        "taken": pa.array([0, None, 1, 10**9], pa.timestamp("s")),
    }
    ids = [f"0-{row}" for row in range(4)]
    write_shard(tmp_path / "data/a.parquet", photos(4), labels=[0, 1, 2, 0], ids=ids, extra=extra)
    plan = plan_of(write_recipe(tmp_path, [branch(where=where, copies=copies)]))
    window = LoadedBranch.load(Job.of(plan), plan.branches[0], "cpu")
    assert plan.layout is not None
    taken = []
    for _, found in read_windows(plan.shards[0], plan.layout, 0, 4, window.window_rows):
        taken += [found[index].row for index in window.selection.of(found)]
    assert taken == rows


def test_one_broken_shard_beside_good_ones_stops_no_plan(folder: Path) -> None:
    shard = folder / "data/train-00000.parquet"
    data = bytearray(shard.read_bytes())
    data[200:3000] = bytes(2800)  # the footer is whole, the pages are not
    shard.write_bytes(data)
    plan = plan_of(write_recipe(folder, [branch(where="label == 1")]))
    assert plan.units
    (found,) = estimate(plan)
    assert found.bytes < found.images * 50_000  # from an image that could be read
    with pytest.raises(RecipeError, match="mean"):
        plan_of(write_recipe(folder, [branch(where="row > row.mean()")]))
    shutil.copy(shard, folder / "data/train-00001.parquet")
    assert plan_of(write_recipe(folder, [branch(where="label == 1")])).units


FREE = {"force": True, "condition": "none"}
"""The embedded model beside images, and classes, that it does not know."""


def test_the_estimate_follows_the_steps_that_are_asked_for(tmp_path: Path) -> None:
    write_input(tmp_path / "data")
    usual, given, double = (
        estimate(plan_of(write_recipe(tmp_path, [branch(operators=[{"diffusion_edit": FREE | params}])])))[0].seconds
        for params in ({}, {"steps": 10}, {"steps": 20})
    )
    assert given == usual and 1.8 * usual < double < 2 * usual


def test_boxes_under_a_geometric_operator_are_refused_and_can_be_dropped(tmp_path: Path) -> None:
    boxes = [[[0, 0, 4, 4]]] * 6
    write_shard(tmp_path / "data" / "a.parquet", photos(6), labels=[0] * 6, extra={"bbox": boxes})
    with pytest.raises(JobError, match=r"bbox.*input\.drop"):
        plan_of(write_recipe(tmp_path))
    assert plan_of(write_recipe(tmp_path, input={"drop": ["bbox"]})).units


def test_help_and_plan_import_neither_torch_nor_ray(folder: Path) -> None:
    recipe = write_recipe(folder, [FLIP, CLASSICAL, branch(name="styled", operators=[{"adain_style": {}}])])
    code = (
        "import sys, jobs.cli\n"
        "try:\n    status = jobs.cli.main(sys.argv[1:])\nexcept SystemExit as end:\n    status = end.code\n"
        "heavy = [name for name in ('torch', 'ray', 'diffusers', 'torchvision') if name in sys.modules]\n"
        "assert not heavy, heavy\nsys.exit(status)"
    )
    for arguments in (["--help"], ["plan", str(recipe), "--json"], ["operators"], ["operators", "adain_style"]):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    planned = json.loads(
        subprocess.run(
            [sys.executable, "-m", "jobs", "plan", str(recipe), "--json"], capture_output=True, text=True, check=True
        ).stdout
    )
    assert planned["rows_in"] == 48
    assert planned["images_out"] == 48 * 5
