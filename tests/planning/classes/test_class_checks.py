"""A class that would not reach a prompt, a model or a gate is an error of the plan; what is guessed at is a note."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.errors import JobError
from pipeline.plan import Plan
from tests.fixtures.data_sets import plan_of, write_recipe
from tests.fixtures.shard_files import photos, write_shard
from tests.fixtures.tiny_models import save_pixel_unet

FASHION = ["Bag", "Dress", "Bag", "Sandal"]


def asked(folder: Path, labels: Any, step: dict[str, Any], branch: Any = None, **told: Any) -> Plan:
    """Return the plan of one operator over rows with these labels; `told` is of `input`."""
    count = 4 if labels is None else len(labels)
    extra = {"size": list(range(count)), "captions": pa.array([["a", "b"]] * count), "text": ["x"] * count}
    write_shard(folder / "data/a.parquet", photos(count, 28, 28, 1), labels=labels, extra=extra)
    made = {"name": "b", "copies": 1, **(branch or {}), "operators": [step]}
    made = {key: value for key, value in made.items() if value is not None}
    return plan_of(write_recipe(folder, [made], input=told))


@pytest.fixture(scope="module")
def pipeline(tiny: Callable[[str], Path]) -> Path:
    return tiny("stable")


def edit(model: Any, **params: Any) -> dict[str, Any]:
    return {"diffusion_edit": {"model": str(model), "steps": 4, **params}}


FASHION_EDIT = edit("builtin:fashion-diffusion")


@pytest.mark.parametrize(
    ("labels", "told", "branch", "words"),
    [
        ([0, 1, 0, 2], {}, {}, ["column 'label' holds numbers without names (0, 1, 2)", "input.class_names"]),
        (["a", None, "b", None], {}, {}, ["2 of 4 rows", "column 'label'", "null", "where: label.notna()"]),
        (["a", " ", "b", None], {}, {}, ["2 of 4 rows", "' '", "label.str.strip() != ''"]),
        ([0, -1, 1, -1], {"class_names": ["a", "b"]}, {}, ["2 of 4 rows", "-1", "where: label >= 0"]),
        ([None] * 4, {}, {}, ["4 of 4 rows", "where"]),
        (None, {}, {}, ["no column of the input is the label", "columns: {label: NAME}"]),
        (["a"] * 4, {"columns": {"label": "none"}}, {}, ["no column of the input is the label"]),
        (["a", None, "b", "b"], {}, {"where": "size > 0"}, ["1 of 3 rows"]),
        (["a", None, "b", "b"], {}, {"where": "label != 'b' or label.isna()"}, ["1 of 2 rows"]),
    ],
)  # fmt: skip
def test_a_label_that_would_be_blank_in_a_prompt(
    tmp_path: Path, pipeline: Path, labels: Any, told: Any, branch: Any, words: list[str]
) -> None:
    with pytest.raises(JobError) as caught:
        asked(tmp_path, labels, edit(pipeline), branch, **told)
    message = str(caught.value)
    assert all(word in message for word in [*words, "diffusion_edit.prompt", "{label} would be blank"]), message
    assert "\n" not in message and "drop" not in message and len(message) < 500


@pytest.mark.parametrize(
    ("labels", "told", "branch"),
    [
        (["a", None, "b", " "], {}, {"where": "label.notna() and label.str.strip() != ''"}),
        (["a", None, "b", "b"], {}, {"where": "label.notna()"}),
        (["a", None, "b", "b"], {}, {"where": "label == label"}),
        (["a", None, "b", "b"], {}, {"where": "size > 1"}),
        ([0, -1, 1, -1], {"class_names": ["a", "b"]}, {"where": "label >= 0"}),
        ([0.0, 1.0, None, 1.0], {"class_names": ["a", "b"]}, {"where": "label.notna()"}),
        ([True, False, True, True], {"class_names": ["no", "yes"]}, {}),
        (pa.array(["a", "b", "b", "a"], pa.string_view()), {}, {}),
    ],
)
def test_the_remedies_that_messages_name_are_remedies(
    tmp_path: Path, pipeline: Path, labels: Any, told: Any, branch: Any
) -> None:
    assert asked(tmp_path, labels, edit(pipeline), branch, **told).notes == ()


def test_a_prompt_without_the_label_needs_none(tmp_path: Path, pipeline: Path) -> None:
    assert asked(tmp_path, [0, 1, None, 2], edit(pipeline, prompt="a thing, {text}")).units
    with pytest.raises(JobError, match="condition: none tells of no class; leave it out"):
        asked(tmp_path, ["a"] * 4, edit(pipeline, condition="none"))


def test_a_branch_without_classes_has_none_for_a_prompt(tmp_path: Path, pipeline: Path) -> None:
    step = {"diffusion_generate": {"model": str(pipeline), "steps": 2}}
    with pytest.raises(JobError, match="a branch of `count` has no classes; use per_class"):
        asked(tmp_path, ["a"] * 4, step, {"copies": None, "count": 3})
    assert asked(tmp_path, ["a", "b", "a", "a"], step, {"copies": None, "per_class": 3}).units


@pytest.mark.parametrize("field", ["prompt", "negative_prompt", "clip_prompt"])
def test_a_list_is_no_text(tmp_path: Path, pipeline: Path, field: str) -> None:
    with pytest.raises(JobError, match=rf"{field}: column 'captions' is list<.*needs one text a row"):
        asked(tmp_path, ["a"] * 4, edit(pipeline, **{field: "{captions}"}))


def test_a_prompt_takes_names_of_classes_and_not_their_numbers(tmp_path: Path, pipeline: Path) -> None:
    step = edit(pipeline, prompt="a {column:label}")
    with pytest.raises(JobError, match=r"prompt: column 'label' holds numbers of classes.*; write \{label\} for"):
        asked(tmp_path, [0, 1, 0, 1], step, class_names=["cat", "dog"])
    assert asked(tmp_path, ["cat", "dog", "cat", "dog"], step).units  # texts are names
    assert asked(tmp_path, [3, 7, 3, 7], step).units  # digits without names are what they are


@pytest.mark.parametrize(
    ("labels", "told", "branch", "words"),
    [
        (["cat", "Bag", "owl", "cat"], {}, {}, ["knows no class 'cat', 'owl'", "its classes: Bag, cat, owl",
                                                "it knows T-shirt/top", "write the labels as the model does",
                                                "where", "condition: none"]),
        ([0, 1, 1, 1], {"class_names": ["cat", "Bag"]}, {}, ["knows no class 'cat'", "name the classes as the model"]),
        (["3", "8", "8", "3"], {}, {}, ["knows no class '3', '8'", "write the labels as whole numbers"]),
        ([0, 11, 1, 1], {}, {}, ["has 10 classes", "holds 11", "input.class_names"]),
        ([0, -1, 1, 1], {}, {}, ["1 of 4 rows", "-1", "where: label >= 0"]),
        (["Bag", "", "Bag", "Bag"], {}, {}, ["1 of 4 rows", "''", "label.str.strip() != ''"]),
        (["Bag", "cat", "Bag", "Bag"], {}, {"where": "size > 0"}, ["knows no class 'cat'"]),
    ],
)  # fmt: skip
def test_a_model_that_does_not_know_the_classes(
    tmp_path: Path, labels: Any, told: Any, branch: Any, words: list[str]
) -> None:
    with pytest.raises(JobError) as caught:
        asked(tmp_path, labels, FASHION_EDIT, branch, **told)
    message = str(caught.value)
    assert all(word in message for word in [*words, "builtin:fashion-diffusion"]), message
    assert "\n" not in message and len(message) < 600


@pytest.mark.parametrize(
    ("labels", "told", "branch"),
    [
        (FASHION, {}, {}),
        (["bag", "t-shirt / TOP", "BAG", "bag"], {}, {}),
        (["bag", None, "BAG", "bag"], {}, {"where": "label.notna()"}),
        (["cat", "Bag", "owl", "Bag"], {}, {"where": "label in ('Bag', 'Coat')"}),
        (["cat", "Bag", "Bag", "Bag"], {}, {"where": "size > 0"}),
        ([0, 1, 1, 1], {"class_names": {0: "Coat", 1: "Bag"}}, {}),
    ],
)
def test_classes_that_the_model_knows(tmp_path: Path, labels: Any, told: Any, branch: Any) -> None:
    assert asked(tmp_path, labels, FASHION_EDIT, branch, **told).notes == ()
    assert asked(tmp_path, ["cat"] * 4, edit("builtin:fashion-diffusion", condition="none")).notes == ()


def test_images_without_a_label_are_made_without_a_class_with_a_note(tmp_path: Path) -> None:
    (note,) = asked(tmp_path, None, FASHION_EDIT).notes
    assert note.endswith("no column of the input is the label: made without one")


def test_numbers_without_names_are_taken_for_the_models_with_a_note(tmp_path: Path) -> None:
    nulls, note = asked(tmp_path, [0, 8, None, 8], FASHION_EDIT).notes
    assert "0 = T-shirt/top, 8 = Bag" in note and "input.class_names" in note
    assert nulls.endswith("1 of 4 rows of column 'label' has no class: made without one")


def test_a_model_without_names_or_without_a_class_of_none(tmp_path: Path) -> None:
    save_pixel_unet(tmp_path / "pixel", classes=3, named=False)
    (note,) = asked(tmp_path, ["a", "b", "c", "a"], edit("pixel")).notes
    assert "no names" in note and "a = 0, b = 1, c = 2" in note
    with pytest.raises(JobError, match=r"needs a class, and 1 of 4 rows .* has none \(null\)"):
        asked(tmp_path, ["a", "b", "c", None], edit("pixel"))
    with pytest.raises(JobError, match="makes nothing without a class, and no column"):
        asked(tmp_path, None, edit("pixel"))
    with pytest.raises(JobError, match="has 3 classes, and column 'label' holds 3"):
        asked(tmp_path, ["a", "b", "c", "d"], edit("pixel"))


@pytest.mark.parametrize(("kind", "names"), [("pixel", "shirt, shoe, bag"), ("dit", "shirt, blouse, shoe, bag")])
def test_folders_name_their_classes(tmp_path: Path, tiny: Callable[[str], Path], kind: str, names: str) -> None:
    with pytest.raises(JobError, match=rf"knows no class 'cat' .*it knows {names};"):
        asked(tmp_path, ["shirt", "cat", "Shoe", "shoe"], edit(tiny(kind)))
    assert asked(tmp_path, ["shirt", "bag", "Shoe", "shoe"], edit(tiny(kind))).notes == ()


def test_new_images_of_classes(tmp_path: Path) -> None:
    gan, per_class, count = {"gan_synth": {}}, {"copies": None, "per_class": 2}, {"copies": None, "count": 2}
    plan = asked(tmp_path, FASHION, gan, per_class)
    assert plan.notes == () and [unit.label for unit in plan.units] == ["Bag", "Dress", "Sandal"]
    with pytest.raises(JobError, match=r"gan_synth.model: builtin:fashion-wgan knows no class 'cat'"):
        asked(tmp_path, ["cat", "Bag", "Bag", "Bag"], gan, per_class)
    with pytest.raises(JobError, match=r"per_class needs class names.*input.class_names"):
        asked(tmp_path, [0, 1, 2, 3], gan, per_class)
    assert len(asked(tmp_path, [0, 1, 1, 1], gan, per_class, class_names=["Coat", "Bag"]).units) == 2
    (note,) = asked(tmp_path, FASHION, gan, count).notes
    assert "images of T-shirt/top, Trouser" in note and "get no label" in note
    for labels in ([None] * 4, [[0], [1], [], [0]]):
        (note,) = asked(tmp_path, labels, gan, count, columns={"label": "none"}).notes
        assert note.endswith("its images get no label: column 'label' holds no classes")


@pytest.mark.parametrize(
    ("labels", "told", "message"),
    [
        ([[0], [1]], {"columns": {"label": "none"}}, "no classes to name.*label: none.*leave out one"),
        ([0, 1], {"columns": {"label": "none"}}, "no classes to name.*label: none.*leave out one"),
        ([None, None], {}, r"images of Bag, Dress, Coat, and column 'label' \(null\) holds no such label"),
        ([True, False], {}, r"images of Coat, and column 'label' \(bool\) holds no such label.*whole numbers or texts"),
    ],
)
def test_new_images_of_classes_that_the_label_cannot_hold(tmp_path: Path, labels: Any, told: Any, message: str) -> None:
    branch = {"copies": None, "per_class": 2}
    with pytest.raises(JobError, match=message):
        asked(tmp_path, labels, {"gan_synth": {}}, branch, class_names=["Bag", "Dress", "Coat"], **told)


def test_mixing_needs_two_classes_that_the_model_knows(tmp_path: Path) -> None:
    mix = {"diffusion_mix": {"model": "builtin:fashion-diffusion"}}
    with pytest.raises(JobError, match="needs 2 at least, and the input has 0"):
        asked(tmp_path, [0, 1, 0, 1], mix)
    with pytest.raises(JobError, match="knows no class 'Bag', 'cat'"):
        asked(tmp_path, ["Bag", "cat", "cat", "Bag"], mix)
    assert asked(tmp_path, FASHION, mix).notes == ()


def test_a_further_class_keeps_units_that_read_no_others(tmp_path: Path) -> None:
    """An image's own class is in its row; only who reads the names of others makes something else."""
    for step, same in ((FASHION_EDIT, True), ({"diffusion_mix": {"model": "builtin:fashion-diffusion"}}, False)):
        before = asked(tmp_path, FASHION, step)
        write_shard(tmp_path / "data/b.parquet", photos(2, 28, 28, 1), labels=["Ankle boot", "Coat"],
                    extra={"size": [0, 0], "captions": pa.array([["a"]] * 2), "text": ["x", "y"]})  # fmt: skip
        after = asked(tmp_path, FASHION, step)
        assert (before.units[0].digest == after.units[0].digest) is same
        (tmp_path / "data/b.parquet").unlink()
    new = {"copies": None, "per_class": 2}
    before, after = (asked(tmp_path, labels, edit_of, new) for labels, edit_of in
                     ((["Bag", "Coat"], GENERATE), (["Ankle boot", "Bag", "Coat"], GENERATE)))  # fmt: skip
    assert {(unit.name, unit.digest) for unit in before.units} < {(unit.name, unit.digest) for unit in after.units}


def test_labels_and_splits_that_folders_state_are_told_and_chosen(tmp_path: Path) -> None:
    for split, label in (("train", "Bag"), ("train", "Coat"), ("test", "cat")):
        write_shard(tmp_path / f"data/split={split}/label={label}/a.parquet", photos(2, 28, 28, 1))
    branch = {"name": "b", "copies": 1, "operators": [FASHION_EDIT]}
    with pytest.raises(JobError, match="knows no class 'cat'"):
        plan_of(write_recipe(tmp_path, [branch], input={"uri": "data", "split": "all"}))
    for told, where in (({"split": "train"}, None), ({"split": "all"}, "split == 'train'"), ({}, "split != 'test'")):
        narrowed = branch | ({"where": where} if where else {})
        plan = plan_of(write_recipe(tmp_path, [narrowed], input={"uri": "data", **told}))
        assert {"Bag", "Coat"} <= set(plan.classes) and plan.notes == ()


GENERATE = {"diffusion_generate": {"model": "builtin:fashion-diffusion", "steps": 2}}
