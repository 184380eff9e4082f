"""Labels of every kind through a whole run: the right class for models, stored as they came, checked, replayed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.audit.replay import replay_sample
from pipeline.audit.report import write_report
from pipeline.audit.verify import verify_dataset
from pipeline.publishing.manifest import read_manifest
from pipeline.shards.output.store import open_store
from tests.fixtures.data_sets import FLIP, plan_of, rows_of, run_here, write_recipe
from tests.fixtures.shard_files import photos, write_shard

FASHION = ["Bag", "Dress", None, "Sandal", "Bag"]
KNOWN = {"Bag": 8, "Dress": 3, "Sandal": 5, None: -1}
EDIT = {"diffusion_edit": {"model": "builtin:fashion-diffusion", "steps": 4, "strength_range": [0.5, 0.5]}}


def made(folder: Path, labels: Any, branches: list[dict[str, Any]], **told: Any) -> list[dict[str, Any]]:
    """Run branches over grey 28 px rows with these labels; verify, report, and replay the first image."""
    write_shard(folder / "data/a.parquet", photos(len(labels), 28, 28, 1), labels=labels)
    run_here(plan_of(write_recipe(folder, branches, input=told)))
    return checked(folder / "out")


def checked(out: Path) -> list[dict[str, Any]]:
    store, rows = open_store(str(out)), rows_of(out)
    assert not verify_dataset(store).findings
    write_report(store, read_manifest(store))
    for branch in dict.fromkeys(row["branch"] for row in rows):
        first = next(row for row in rows if row["branch"] == branch)
        replayed = replay_sample(store, first["sample_id"])
        assert replayed.equal, replayed.differs
    return rows


def drawn(row: dict[str, Any], name: str = "class_index") -> Any:
    return json.loads(row["steps"][0]["params"])[name]


TEXT_TYPES = [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]


@pytest.mark.parametrize("kind", TEXT_TYPES, ids=str)
def test_texts_are_told_to_a_model_as_its_classes_and_keep_their_type(tmp_path: Path, kind: pa.DataType) -> None:
    rows = made(tmp_path, pa.array(FASHION, kind), [{"name": "edited", "copies": 1, "operators": [EDIT]}])
    assert [row["label"] for row in rows] == FASHION
    assert [drawn(row) for row in rows] == [KNOWN[label] for label in FASHION]
    (file,) = (tmp_path / "out/data").glob("*.parquet")
    stored = pq.read_schema(file).field("label").type
    given = pq.read_schema(tmp_path / "data/a.parquet").field("label").type
    assert stored == (pa.string() if pa.types.is_string_view(given) else given)  # views are never kept
    assert json.loads((tmp_path / "out/manifest.json").read_text())["classes"] == ["Bag", "Dress", "Sandal"]


@pytest.mark.parametrize("kind", [pa.string(), pa.dictionary(pa.int32(), pa.string())], ids=str)
def test_new_images_of_texts(tmp_path: Path, kind: pa.DataType) -> None:
    new = [{"name": "gan", "per_class": 2, "operators": [{"gan_synth": {}}]},
           {"name": "any", "count": 6, "operators": [{"gan_synth": {}}]},
           {"name": "flow", "per_class": 1,
            "operators": [{"diffusion_generate": {"model": "builtin:fashion-diffusion", "steps": 2}}]}]  # fmt: skip
    rows = made(tmp_path, pa.array(["Dress", "Ankle boot", "Dress", "Bag"], kind), new)
    known = {"Dress": 3, "Ankle boot": 9, "Bag": 8}
    for branch, images in (("gan", 2), ("flow", 1)):
        own = [row for row in rows if row["branch"] == branch]
        assert sorted(row["label"] for row in own) == sorted([*known] * images)
        assert [drawn(row) for row in own] == [known[row["label"]] for row in own]
    names = {index: name for name, index in known.items()}
    found = [row for row in rows if row["branch"] == "any"]
    assert len(found) == 6 and [row["label"] for row in found] == [names.get(drawn(row)) for row in found]


def test_ordered_categories_are_classes_in_their_order(tmp_path: Path) -> None:
    """As pandas writes an ordered Categorical, and Polars an Enum."""
    kind = pa.dictionary(pa.int8(), pa.string(), ordered=True)
    texts = pa.DictionaryArray.from_arrays(pa.array([1, 0, None], pa.int8()), ["Dress", "Bag", "Coat"], ordered=True)
    new = {"name": "new", "per_class": 1, "operators": [{"gan_synth": {}}]}
    images = pa.array([{"bytes": image, "path": None} for image in photos(3, 28, 28, 1)])
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table({"image": images, "label": texts}), tmp_path / "data/a.parquet")
    run_here(plan_of(write_recipe(tmp_path, [{"name": "edited", "copies": 1, "operators": [EDIT]}, new])))
    rows = checked(tmp_path / "out")
    assert [row["label"] for row in rows] == ["Bag", "Dress", None, "Bag", "Coat", "Dress"]
    assert [drawn(row) for row in rows] == [8, 3, -1, 8, 4, 3]
    assert json.loads((tmp_path / "out/manifest.json").read_text())["classes"] == ["Dress", "Bag", "Coat"]
    (file, *_) = (tmp_path / "out/data").glob("*.parquet")
    assert pq.read_schema(file).field("label").type == kind


def test_a_mix_of_texts_has_their_names(tmp_path: Path) -> None:
    mix = {"diffusion_mix": {"model": "builtin:fashion-diffusion", "steps": 4, "label_weight": 0.75}}
    rows = made(tmp_path, ["Bag", "Dress", "Bag", "Sandal"], [{"name": "mixed", "copies": 2, "operators": [mix]}])
    for row in rows:
        assert row["label"] == drawn(row, "target_name") == ["Bag", "Dress", "Sandal"][drawn(row, "target")]
        assert drawn(row) == KNOWN[row["label"]] and sorted(row["soft_label"]) == [0, 0.25, 0.75]


def test_names_in_the_recipe_or_the_metadata_are_those_of_the_output(tmp_path: Path) -> None:
    (tmp_path / "names.json").write_text('{"0": "Dress", "1": "Bag"}')
    edited = {"name": "edited", "copies": 1, "operators": [EDIT]}
    rows = made(tmp_path, [1, 0, None, 1], [edited], class_names="names.json")
    assert [drawn(row) for row in rows] == [8, 3, -1, 8] and [row["label"] for row in rows] == [1, 0, None, 1]
    (file,) = (tmp_path / "out/data").glob("*.parquet")
    features = json.loads(pq.read_schema(file).metadata[b"huggingface"])["info"]["features"]
    assert features["label"] == {"_type": "ClassLabel", "names": ["Dress", "Bag"]}


@pytest.mark.parametrize("labels", [[1.0, 0.0, None, 1.0], [True, False, None, True]])
def test_numbers_of_other_types_come_back_as_they_were(tmp_path: Path, labels: list[Any]) -> None:
    named = {"class_names": ["Dress", "Bag"]}
    new = {"name": "new", "per_class": 1, "operators": [{"gan_synth": {}}]}
    rows = made(tmp_path, labels, [{"name": "edited", "copies": 1, "operators": [EDIT]}, new], **named)
    assert [drawn(row) for row in rows[:4]] == [8, 3, -1, 8]
    assert [(row["label"], type(row["label"])) for row in rows[:4]] == [(label, type(label)) for label in labels]
    kind = type(labels[0])
    assert [(row["label"], type(row["label"])) for row in rows[4:]] == [(kind(0), kind), (kind(1), kind)]
    report = (tmp_path / "out/report/index.html").read_text()
    assert "Dress" in report and "Bag" in report


CARRIED: dict[str, Any] = {
    "several": [[0], [0, 1], [], None],
    "scores": [0.5, float("nan"), None, -9.75],
    "texts": [["a", "b"], [], ["c"], ["a"]],
    "structs": [{"x": 1, "y": "a"}, None, {"x": 2, "y": None}, {"x": 3, "y": "b"}],
    "numbers": [7, -1, None, 2],
    "nulls": [None] * 4,
}


@pytest.mark.parametrize("name", ["label", "labels"])
@pytest.mark.parametrize("labels", CARRIED.values(), ids=CARRIED)
def test_what_is_no_class_is_carried_as_it_is(tmp_path: Path, name: str, labels: list[Any]) -> None:
    images = pa.array([{"bytes": image, "path": None} for image in photos(4, 8, 8)])
    table = pa.table({"image": images, name: labels})
    (tmp_path / "data").mkdir()
    pq.write_table(table, tmp_path / "data/a.parquet")
    told = {"columns": {"label": "none"}}
    run_here(plan_of(write_recipe(tmp_path, [FLIP | {"copies": 1}], input=told, output={"keep_originals": True})))
    rows = checked(tmp_path / "out")
    for branch in ("flipped", "original"):
        assert repr([row[name] for row in rows if row["branch"] == branch]) == repr(labels)
    (file, *_) = (tmp_path / "out/data").glob("*.parquet")
    assert pq.read_schema(file).field(name).type == table.schema.field(name).type
    assert "input_label" not in rows[0]


@pytest.mark.parametrize("said", ["columns: {label: null}", "columns: {label: }", "columns: {label: None, id: null}"])
def test_no_label_is_said_by_none_or_by_a_null_that_is_written_out(tmp_path: Path, said: str) -> None:
    write_shard(tmp_path / "data/a.parquet", photos(2, 8, 8), labels=[[0], [1, 2]])
    recipe = write_recipe(tmp_path)
    recipe.write_text(recipe.read_text().replace("  uri: data/*.parquet", f"  uri: data/*.parquet\n  {said}"))
    plan = plan_of(recipe)
    assert plan.layout is not None and plan.layout.label is None and plan.layout.carried_label == "label"


def test_a_label_of_nulls_alone_is_no_class(tmp_path: Path) -> None:
    rows = made(tmp_path, [None] * 3, [FLIP])
    assert [row["label"] for row in rows] == [None] * 6


def test_prompts_and_gates_are_given_the_names(tmp_path: Path, tiny: Callable[[str], Path]) -> None:
    step = {"diffusion_edit": {"model": str(tiny("stable")), "steps": 2, "strength_range": [0.5, 0.5]}}
    gate = {"clip": {"model": str(tiny("clip")), "mode": "top_class", "min_score": -2}}
    write_shard(tmp_path / "data/a.parquet", photos(3, 16, 16), labels=["owl", "cat", "owl"])
    branch = {"name": "told", "copies": 1, "operators": [step]}
    run_here(plan_of(write_recipe(tmp_path, [branch], quality={"gates": [gate]})))
    rows = checked(tmp_path / "out")
    assert [drawn(row, "prompt") for row in rows] == [f"a photograph of a {name}" for name in ("owl", "cat", "owl")]
    assert all(-2 <= row["quality"][0]["score"] <= 2 for row in rows)  # an image without a class has no score
