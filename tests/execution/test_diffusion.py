"""Diffusion operators in a whole run: planned, made unit by unit, and made again from the lineage."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.audit.replay import replay_sample
from pipeline.contracts import Draws
from pipeline.errors import InputError, ModelError, RecipeError
from pipeline.execution.chain import _once_per_call_key
from pipeline.operators.bases.diffusion_parameters import DiffusionParameters, RedrawParameters
from pipeline.operators.diffusion.diffusion_edit import DiffusionEdit, DiffusionEditParams
from pipeline.shards.images.codecs import decode
from pipeline.shards.output.store import open_store
from pipeline.validation import parse
from tests.fixtures.data_sets import CLASSES, plan_of, rows_of, run_here, write_recipe
from tests.fixtures.shard_files import STRUCT, photos, png, write_shard
from tests.fixtures.tiny_models import OWN_WARNING, save_pixel_unet

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings(OWN_WARNING)]

ROWS = 6
FEW = {"steps": 4, "strength_range": [0.5, 1.0]}


@pytest.fixture
def folder(tmp_path: Path, tiny: Callable[[str], Path]) -> Path:
    """Labelled photographs with captions, masks and, in the last row, a null of each; models beside them."""
    mask = np.zeros((24, 32, 1), np.uint8)
    mask[6:18, 8:24] = 255
    cells = [{"bytes": png(mask), "path": None} for _ in range(ROWS - 1)]
    write_shard(
        tmp_path / "data" / "train-00000.parquet",
        photos(ROWS),
        labels=[row % 3 for row in range(ROWS)],
        ids=[str(row) for row in range(ROWS)],
        class_names=CLASSES,
        extra={"caption": ["a red one"] * (ROWS - 1) + [None], "object_mask": pa.array([*cells, None], STRUCT)},
    )
    shutil.copytree(tiny("stable"), tmp_path / "stable")
    save_pixel_unet(tmp_path / "pixel", len(CLASSES), named=False)
    return tmp_path


def branch(operator: str, **params: Any) -> dict[str, Any]:
    return {"name": "made", "operators": [{operator: {"model": "stable", **FEW, **params}}]}


def made(folder: Path, operator: str, **params: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Run one branch; return accepted and quarantined rows."""
    aside = ["object_mask"] if operator == "diffusion_mix" else []  # it moves pixels, and masks would not follow
    recipe = write_recipe(folder, [branch(operator, **params)], input={"passthrough": aside})
    manifest, _ = run_here(plan_of(recipe))
    assert manifest.complete
    return rows_of(folder / "out"), rows_of(folder / "out", "quarantine")


def test_prompts_are_in_the_lineage_and_the_image_can_be_made_again(folder: Path) -> None:
    prompt = {"a {label}": 1, "{caption}, a {label}": 1}
    rows, lost = made(folder, "diffusion_edit", prompt=prompt, guidance_range=[1.0, 3.0])
    assert len(rows) + len(lost) == ROWS and all(row["error_code"] == "no_prompt" for row in lost)
    drawn = [json.loads(row["steps"][0]["params"]) for row in rows]
    assert {len(each["prompt_sha256"]) for each in drawn} == {64}
    for row, each in zip(rows, drawn, strict=True):
        name = CLASSES[row["label"]]
        assert each["prompt"] in (f"a {name}", f"a red one, a {name}") and each["guidance"] in (1.0, 1.5, 2.0, 2.5, 3.0)
    for row in rows[:2]:
        assert replay_sample(open_store(str(folder / "out")), row["sample_id"]).equal


def test_a_mixed_row_has_a_soft_label_and_the_larger_class(folder: Path) -> None:
    rows, lost = made(folder, "diffusion_mix", strengths=[[0.25, 1], [0.75, 1]], prompt="a {label}")
    assert len(rows) == ROWS and not lost
    for row in rows:
        drawn = json.loads(row["steps"][0]["params"])
        source = int(row["source_row"]) % 3
        assert row["soft_label"][drawn["target"]] == pytest.approx(drawn["weight"])
        assert row["soft_label"][source] == pytest.approx(1 - drawn["weight"])
        assert (
            row["label"] == int(np.argmax(row["soft_label"])) == (drawn["target"] if drawn["weight"] > 0.5 else source)
        )
    assert {row["label"] != int(row["source_row"]) % 3 for row in rows} == {True, False}


def test_a_mask_column_reaches_the_operator_and_the_object_stays(folder: Path) -> None:
    rows, lost = made(folder, "diffusion_inpaint", mask="object_mask")
    assert [row["error_code"] for row in lost] == ["no_mask"] and len(rows) == ROWS - 1
    for row, source in zip(rows, photos(ROWS), strict=False):
        before, after = decode(source, 10**6), decode(row["image"]["bytes"], 10**6)
        np.testing.assert_array_equal(after[6:18, 8:24], before[6:18, 8:24])
        assert (after[:6] != before[:6]).mean() > 0.5


def test_what_a_checker_flags_is_rejected_once_and_never_made_again(folder: Path, tiny: Callable[[str], Path]) -> None:
    shutil.copytree(tiny("guarded"), folder / "guarded")
    edited = branch("diffusion_edit", model="guarded")
    quality = {"gates": [{"blank": {"max_share": 1.0}}], "max_attempts": 3}
    manifest, _ = run_here(plan_of(write_recipe(folder, [edited], quality=quality)))
    assert manifest.complete and manifest.counts.rejected == ROWS and not rows_of(folder / "out")
    rows = rows_of(folder / "out", "rejected")
    assert [(row["rejected_reason"], row["attempt"]) for row in rows] == [("unsafe", 0)] * ROWS


def test_new_images_of_a_class_and_of_a_prompt(folder: Path) -> None:
    for model in ("pixel", "stable"):
        recipe = {"name": "new", "per_class": 2, "operators": [{"diffusion_generate": {"model": model, "steps": 3}}]}
        run_here(plan_of(write_recipe(folder, [recipe], output={"uri": f"out-{model}"})))
        rows = rows_of(folder / f"out-{model}")
        assert sorted(row["label"] for row in rows) == [0, 0, 1, 1, 2, 2]
        assert replay_sample(open_store(str(folder / f"out-{model}")), rows[0]["sample_id"]).equal


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"model": "gone.safetensors"}, ModelError, "there is no such file"),
        ({"lora": "gone.safetensors"}, ModelError, "there is no such file"),
        ({"scheduler": "ddmi"}, RecipeError, "scheduler = 'ddmi'"),
        ({"prompt": "a {label"}, RecipeError, "brace that stands alone"),
        ({"guidance": 2, "guidance_range": [1, 2]}, RecipeError, "both given; leave one out"),
        ({"strengths": [[0.1, 1]]}, RecipeError, "smallest usable strength is 0.25"),
    ],
)
def test_what_is_wrong_is_one_line_when_the_run_is_planned(
    folder: Path, params: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        plan_of(write_recipe(folder, [branch("diffusion_edit", **params)]))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("operator", "params", "message"),
    [
        ("diffusion_edit", {"prompt": "{captoin}"}, r"diffusion_edit.prompt: there is no column 'captoin' .*'caption'"),
        ("diffusion_edit", {"negative_prompt": "{column:x}"}, r"negative_prompt: .*known: caption, id, label"),
        (
            "diffusion_edit",
            {"clip_model": "stable", "clip_prompt": "{captoin}"},
            "clip_prompt: there is no column 'captoin'",
        ),
        ("diffusion_inpaint", {"mask": "object_maks"}, "diffusion_inpaint.mask: .*did you mean 'object_mask'"),
        ("diffusion_inpaint", {"mask": "image"}, "'image' holds binary data, which is read only as masks"),
    ],
)
def test_a_column_that_is_not_there_is_one_line_when_the_run_is_planned(
    folder: Path, operator: str, params: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=rf"recipe.branches\[0\].operators\[0\].*{message}"):
        plan_of(write_recipe(folder, [branch(operator, **params)]))


def test_a_branch_without_source_rows_has_no_columns(folder: Path) -> None:
    steps = [{"diffusion_generate": {}}, {"diffusion_edit": {"prompt": "{caption}"}}]
    with pytest.raises(InputError, match="there is no column 'caption': this branch has no source rows"):
        plan_of(write_recipe(folder, [{"name": "new", "count": 2, "operators": steps}]))


def test_a_call_takes_one_strength_and_for_pipelines_one_guidance(folder: Path, tiny: Callable[[str], Path]) -> None:
    from pipeline.contracts import Assets

    for kind, once in (("stable", ("strength", "guidance")), ("pixel", ("strength",))):
        operator = DiffusionEdit(DiffusionEditParams(model=kind, steps=4, strength_range=(0.5, 1.0)))
        operator.load("cpu", Assets(models={"model": tiny(kind)}))
        assert operator.once_per_call == once
        draws = Draws({"strength": [0.5, 0.5, 1.0], "guidance": [1.0, 2.0, 2.0]})
        assert len({_once_per_call_key(operator, draws, index) for index in range(3)}) == (3 if kind == "stable" else 2)


def test_one_text_a_list_and_a_mapping_are_the_same_templates() -> None:
    alone = parse(DiffusionParameters, {"prompt": "a {label}"}, "x").prompt
    assert alone == (("a {label}", 1.0),) == parse(DiffusionParameters, {"prompt": ["a {label}"]}, "x").prompt
    pairs = parse(DiffusionParameters, {"prompt": [["a", 2], ["b", 1]]}, "x").prompt
    assert pairs == (("a", 2.0), ("b", 1.0)) == parse(DiffusionParameters, {"prompt": {"a": 2, "b": 1}}, "x").prompt
    assert parse(DiffusionParameters, {"negative_prompt": ""}, "x").negative_prompt == ()
    with pytest.raises(RecipeError, match="weights above 0"):
        parse(DiffusionParameters, {"prompt": [["a", 0]]}, "x")
    assert parse(RedrawParameters, {"steps": 2, "strengths": [[0.5, 1]]}, "x").strengths == ((0.5, 1.0),)
