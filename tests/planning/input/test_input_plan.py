"""The input as `plan` reads it: splits that are asked for, chosen and counted, and what it says of all of it."""

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.cli import main
from pipeline.audit.verify import verify_dataset
from pipeline.errors import InputError
from pipeline.shards.output.store import open_store
from tests.fixtures.data_sets import FLIP, plan_of, rows_of, run_here, write_recipe
from tests.fixtures.shard_files import photos, write_shard

RANDOM = {"name": "two", "copies": 1, "operators": [{"flip": {}}], "where": "label == 1"}


def splits(folder: Path) -> None:
    write_shard(folder / "data/train-00000-of-00001.parquet", photos(4), labels=[0, 1, 0, 1])
    write_shard(folder / "data/test-00000-of-00001.parquet", photos(2, seed=1), labels=[1, 1])


def column(folder: Path, **more: Any) -> None:
    (folder / "data").mkdir()
    table = pa.table({"image": photos(4), "label": [0, 1, 0, 1], "split": ["train", "training", "val", None], **more})
    pq.write_table(table, folder / "data/a.parquet")


def test_several_splits_are_asked_for(tmp_path: Path) -> None:
    splits(tmp_path)
    recipe = write_recipe(tmp_path, input={"uri": "data"})
    with pytest.raises(InputError, match=r"several splits, test \(2 rows\), train \(4 rows\); say input.split: train"):
        plan_of(recipe)
    assert plan_of(recipe, input__uri="data/train-*").splits == {"train": 4}
    assert len(plan_of(recipe, input__split="all").shards) == 2
    with pytest.raises(InputError, match=r"input\.split: mine: there is no such split"):
        plan_of(recipe, input__split="mine")


@pytest.mark.parametrize("name", ["train", "training"])
def test_one_split_is_taken_and_the_others_are_named(tmp_path: Path, name: str) -> None:
    splits(tmp_path)
    plan = plan_of(write_recipe(tmp_path, input={"uri": "data", "split": name}))
    assert [shard.path for shard in plan.shards] == ["train-00000-of-00001.parquet"]
    assert plan.splits == {"test": 2, "train": 4}
    assert plan.skipped.first == {"of another split than input.split": ["test-00000-of-00001.parquet"]}
    alone = plan_of(write_recipe(tmp_path, input={"uri": "data/train-*.parquet"}))
    assert [unit.digest for unit in plan.units] == [unit.digest for unit in alone.units]


def test_a_column_of_splits(tmp_path: Path) -> None:
    column(tmp_path)
    recipe = write_recipe(tmp_path, [FLIP, RANDOM], input={"uri": "data"}, output={"keep_originals": True})
    with pytest.raises(InputError, match=r"several splits, train \(2 rows\), validation \(1 rows\)"):
        plan_of(recipe)
    run_here(plan_of(recipe, input__split="train"))
    rows = rows_of(tmp_path / "out")
    assert sorted((row["branch"], row["source_row"]) for row in rows) == [
        ("flipped", 0), ("flipped", 0), ("flipped", 1), ("flipped", 1), ("original", 0), ("original", 1), ("two", 1),
    ]  # fmt: skip
    assert verify_dataset(open_store(str(tmp_path / "out"))).findings == []


def test_a_recipe_whose_conditions_speak_of_the_split_is_not_asked(tmp_path: Path) -> None:
    column(tmp_path)
    own = {**RANDOM, "where": "split == 'val'"}
    assert plan_of(write_recipe(tmp_path, [own], input={"uri": "data"})).branches[0].where == "split == 'val'"
    with pytest.raises(InputError, match="several splits"):
        plan_of(write_recipe(tmp_path, [own, FLIP], input={"uri": "data"}))


@pytest.mark.parametrize("name", ["split", "Subset", "usage", "data_split"])
def test_one_value_and_other_names_of_a_column_of_splits(tmp_path: Path, name: str) -> None:
    (tmp_path / "data").mkdir()
    table = pa.table({"image": photos(3, 8, 8), name: ["Train", "TEST", "Train"]})
    pq.write_table(table, tmp_path / "data/a.parquet")
    recipe = write_recipe(tmp_path, [FLIP], input={"uri": "data"})
    with pytest.raises(InputError, match=r"several splits, train \(2 rows\), test \(1 rows\)"):
        plan_of(recipe)
    run_here(plan_of(recipe, input__split="train"))
    assert {row["source_row"] for row in rows_of(tmp_path / "out")} == {0, 2}


@pytest.mark.parametrize(
    ("name", "values", "asked", "taken"),
    [
        ("Usage", ["Training", "PublicTest", "Training", "PrivateTest"], r"train \(2 rows\), PublicTest", "train"),
        ("split", [0, 1, 0, 2], r"0 \(2 rows\), 1", "'0'"),
        ("is_train", [True, False, True, None], r"train \(2 rows\), not train \(1 rows\)", "train"),
        ("is_training_image", [1, 0, 1, 0], r"column 'is_training_image' has several splits, train", "train"),
        ("in_test", [1, 0, 1, 0], r"test \(2 rows\), not test", "test"),
    ],
)
def test_columns_of_other_kinds_that_say_splits(
    tmp_path: Path, name: str, values: list[Any], asked: str, taken: str
) -> None:
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table({"image": photos(4, 8, 8), name: values}), tmp_path / "data/a.parquet")
    recipe = write_recipe(tmp_path, [FLIP], input={"uri": "data"})
    with pytest.raises(InputError, match=asked):
        plan_of(recipe)
    run_here(plan_of(recipe, input__split=taken))
    assert {row["source_row"] for row in rows_of(tmp_path / "out")} == {0, 2}


def test_rows_of_no_split_beside_one_are_said(tmp_path: Path) -> None:
    write_shard(tmp_path / "data/train-0.parquet", photos(2, 8, 8))
    write_shard(tmp_path / "data/more.parquet", photos(1, 8, 8, seed=1))
    recipe = write_recipe(tmp_path, [FLIP], input={"uri": "data"})
    (note,) = plan_of(recipe).notes
    assert note.startswith("rows in no split: 1, beside 2 of train")
    assert plan_of(recipe, input__split="all").notes == plan_of(recipe, input__split="train").notes == ()


def test_a_column_of_splits_in_a_file_that_is_called_after_one(tmp_path: Path) -> None:
    table = pa.table({"image": photos(3, 8, 8), "split": ["train", "val", "train"]})
    (tmp_path / "data").mkdir()
    pq.write_table(table, tmp_path / "data/train-0.parquet")
    recipe = write_recipe(tmp_path, [FLIP], input={"uri": "data"})
    with pytest.raises(InputError, match=r"column 'split' has several splits, train \(2 rows\), validation"):
        plan_of(recipe)
    assert plan_of(recipe, input__split="train").branches[0].where == "split in ('train',)"
    pq.write_table(table.slice(1, 1), tmp_path / "data/val-0.parquet")
    assert plan_of(recipe, input__split="val").branches[0].where is None
    assert plan_of(recipe, input__split="train").splits == {"train": 2, "validation": 1}


def test_a_class_label_of_splits_is_no_label(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    features = {"split": {"_type": "ClassLabel", "names": ["train", "test"]}}
    table = pa.table({"image": photos(3, 8, 8), "label": ["cat", "dog", "cat"], "split": [0, 1, 0]})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, tmp_path / "data/a.parquet")
    recipe = write_recipe(tmp_path, [FLIP], input={"uri": "data"})
    with pytest.raises(InputError, match=r"train \(2 rows\), test \(1 rows\)"):
        plan_of(recipe)
    plan = plan_of(recipe, input__split="test")
    assert (plan.classes, plan.branches[0].where) == (("cat", "dog"), "split in (1,)")


def test_a_column_of_sets_that_are_no_splits(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table({"image": photos(2, 8, 8), "set": ["train", "wagon"]}), tmp_path / "data/a.parquet")
    assert plan_of(write_recipe(tmp_path, input={"uri": "data"})).splits == {}


def test_a_column_of_that_name_that_says_no_splits(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    table = pa.table({"image": photos(30, 8, 8), "split": [f"part {row}" for row in range(30)]})
    pq.write_table(table, tmp_path / "data/a.parquet")
    assert plan_of(write_recipe(tmp_path, input={"uri": "data"})).splits == {}
    with pytest.raises(InputError, match="no folder, file name or column 'split'"):
        plan_of(write_recipe(tmp_path, input={"uri": "data", "split": "train"}))


def test_a_shard_that_states_the_first_classes_alone(tmp_path: Path) -> None:
    write_shard(tmp_path / "data/a.parquet", photos(2, 8, 8), labels=[0, 1], class_names=("cat", "dog"))
    write_shard(tmp_path / "data/b.parquet", photos(2, 8, 8, seed=1), labels=[2, 0], class_names=("cat", "dog", "owl"))
    plan = plan_of(write_recipe(tmp_path, [FLIP], input={"uri": "data"}))
    assert plan.classes == ("cat", "dog", "owl")
    run_here(plan)
    assert verify_dataset(open_store(str(tmp_path / "out"))).findings == []


def test_class_names_of_the_recipe_replace_broken_ones(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    table = pa.table({"image": photos(2, 8, 8), "label": [0, 1]})
    table = table.replace_schema_metadata({"id2label": '{"0": "cat", "7": "dog"}'})
    pq.write_table(table, tmp_path / "data/a.parquet")
    recipe = write_recipe(tmp_path, [FLIP], input={"uri": "data"})
    with pytest.raises(InputError, match=r"index 1 has no name .*input\.class_names"):
        plan_of(recipe)
    plan = plan_of(recipe, input__class_names=["cat", "dog"])
    run_here(plan)
    assert plan.classes == ("cat", "dog")
    assert verify_dataset(open_store(str(tmp_path / "out"))).findings == []


@pytest.mark.parametrize(
    ("folders", "told", "count"),
    [
        (("cat", "dog"), {}, 1),
        (("sea lion", "dog"), {}, 1),
        (("cat", "dog"), {"columns": {"label": "none"}}, 0),
        (("part-0", "part-1"), {}, 0),
        (("label=cat", "label=dog"), {}, 0),
        (("cat", "cat"), {}, 0),
    ],
)
def test_folders_that_may_be_classes_are_said(tmp_path: Path, folders: Any, told: Any, count: int) -> None:
    for place, folder in enumerate(folders):
        (tmp_path / "data" / folder).mkdir(parents=True, exist_ok=True)
        pq.write_table(
            pa.table({"image": photos(1, 8, 8, seed=place)}), tmp_path / "data" / folder / f"{place}.parquet"
        )
    notes = plan_of(write_recipe(tmp_path, [FLIP], input={"uri": "data", **told})).notes
    assert len(notes) == count
    assert all("rename them (label=" in note for note in notes)


def test_plan_says_how_many_rows_have_no_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for labels, said in (
        (["cat", None, "dog"], "1 of 3 rows: their label is null, and stays so"),
        ([3, -1, -1], "2 of 3 rows: their label is -1, and stays so"),
        ([" ", None, "dog"], "2 of 3 rows: their label is ' ', null, and stays so"),
        ([3, 1, 0], None),
    ):
        write_shard(tmp_path / "data/a.parquet", photos(3, 8, 8), labels=labels)
        assert main(["plan", str(write_recipe(tmp_path, [FLIP], input={"uri": "data"}))]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line for line in lines if line.startswith("no class")] == ([f"no class     {said}"] if said else [])


def test_plan_says_what_it_took_and_what_it_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("cat", "dog"):
        write_shard(tmp_path / f"data/label={name}/train-0.parquet", photos(2), ids=["a", "b"])
    (tmp_path / "data/README.md").write_text("x")
    os.symlink(tmp_path / "data/label=cat/train-0.parquet", tmp_path / "data/label=cat/z.parquet")
    recipe = str(write_recipe(tmp_path, input={"uri": "data"}))
    assert main(["plan", recipe]) == 0
    said = capsys.readouterr().out
    assert "columns      image: image (bytes and paths), label: label (string), id: id\n" in said
    assert "classes      2 by the labels themselves, sorted: cat, dog\n" in said
    assert "splits       train 4 rows\n" in said
    assert "skipped      1 not named as Parquet: README.md\n" in said
    assert "skipped      1 a link to a file that is taken: label=cat/z.parquet (label=cat/train-0.parquet)\n" in said
    assert main(["plan", recipe, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["input"]
    assert found["columns"] == {
        "image": "image", "image_kind": "struct", "label": "label", "id": "id", "all": ["image", "id", "label"],
    }  # fmt: skip
    assert (found["classes"], found["class_count"]) == (["cat", "dog"], 2)
    assert found["splits"] == [{"split": "train", "rows": 4}]
    assert {each["reason"]: (each["count"], each["first"]) for each in found["skipped"]} == {
        "not named as Parquet": (1, ["README.md"]),
        "a link to a file that is taken": (1, ["label=cat/z.parquet (label=cat/train-0.parquet)"]),
    }


@pytest.mark.parametrize(
    "name",
    ["class_name", "species", "category_id", "labelId", "cls", "target_name", "dog_breed", "scientific_name", "wnid"],
)
def test_a_column_that_may_be_the_label_is_asked_for(tmp_path: Path, name: str) -> None:
    write_shard(tmp_path / "data/0.parquet", photos(2), extra={name: ["a", "b"]})
    recipe = write_recipe(tmp_path)
    with pytest.raises(InputError, match=rf"input\.columns\.label: .*'{name}' may hold classes; .*label: none"):
        plan_of(recipe)
    layout = plan_of(recipe, input__columns__label=name).layout
    assert layout is not None and (layout.label, layout.classes) == (name, ("a", "b"))
    layout = plan_of(recipe, input__columns__label="none").layout
    assert layout is not None and layout.label is None


def test_numbers_with_gaps_and_fields_that_may_be_the_label_are_asked_for(tmp_path: Path) -> None:
    write_shard(tmp_path / "data/0.parquet", photos(3, 8, 8), extra={"category_id": [1.0, None, 2.0]})
    with pytest.raises(InputError, match="'category_id' may hold classes"):
        plan_of(write_recipe(tmp_path))
    write_shard(tmp_path / "data/0.parquet", photos(1, 8, 8), extra={"class_share": [0.5], "json": [{"label": 1}]})
    with pytest.raises(InputError, match="'json' holds a field 'label'; write it to a column of its own"):
        plan_of(write_recipe(tmp_path))
    assert plan_of(write_recipe(tmp_path), input__columns__label="none").layout is not None


@pytest.mark.parametrize("name", ["caption", "class_weight", "target_size", "label_confidence", "category_url"])
def test_other_columns_are_not(tmp_path: Path, name: str) -> None:
    write_shard(tmp_path / "data/0.parquet", photos(2), extra={name: ["a", "b"]})
    assert plan_of(write_recipe(tmp_path)).layout is not None
