"""Keys that were renamed before 0.1.0: the error of an old one names the new one, in recipes, trainers and records."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from jobs.cli import main
from jobs.train.adain import AdainConfig
from jobs.train.concept import ConceptConfig
from jobs.train.diffusion import DiffusionConfig
from jobs.train.distill_diffusion import DistillationConfig
from jobs.train.fast_style import FastStyleConfig
from jobs.train.gan import GanConfig
from jobs.train.loop.config import read_config
from pipeline.errors import InputError, RecipeError
from pipeline.publishing.manifest import read_manifest
from pipeline.registry import GATES, OPERATORS, gate_class, operator_class
from pipeline.shards.output.commit_log import CommitLog
from pipeline.shards.output.store import open_store
from pipeline.validation import parse
from schemas.recipe import Recipe
from tests.fixtures.data_sets import FLIP, plan_of, run_here, write_input, write_recipe

SIDE = {"least_side_px": "min_side_px"}
DIFFUSION = {
    "tokens": "textual_inversion",
    "clip": "clip_model",
    "clip_scale": "clip_guidance_scale",
    "clip_text": "clip_prompt",
}
PARTS: dict[str, dict[str, str]] = {
    "similarity": {"least": "min_similarity", "most": "max_similarity"},
    "clip": {"least": "min_score"},
    "blank": {"most_share": "max_share"},
    "sharpness": {"least_ratio": "min_ratio", "most_ratio": "max_ratio"},
    "adain_style": SIDE,
    "fast_style": SIDE,
    "mix_style": SIDE,
    "style_randomization": SIDE,
    "neural_style": {**SIDE, "optimiser": "optimizer"},
    "color_transfer": {"most_gain": "max_gain"},
    "texture_synthesis": {"most_pixels": "max_pixels"},
    "diffusion_control": DIFFUSION,
    "diffusion_edit": DIFFUSION,
    "diffusion_generate": DIFFUSION,
    "diffusion_inpaint": DIFFUSION,
    "diffusion_mix": {**DIFFUSION, "toward": "mix_with", "row_share": "partner_share"},
}
INPUT = {"unaligned": "passthrough", "depth_bits": "bit_depth"}
GENERATOR = {
    "progress_steps": "logging_steps",
    "batch": "batch_size",
    "warm_up_steps": "warmup_steps",
    "average_decay": "ema_decay",
}
STYLE = {"progress_steps": "logging_steps", "max_batch": "max_batch_size", "average_decay": "ema_decay"}
TRAINERS: list[tuple[type[BaseModel], str, dict[str, str]]] = [
    (AdainConfig, "decoder", STYLE),
    (FastStyleConfig, "training", STYLE),
    (FastStyleConfig, "loss", {"variation_weight": "tv_weight"}),
    (DiffusionConfig, "training", {**GENERATOR, "unlabelled_share": "label_dropout"}),
    (DistillationConfig, "training", {**GENERATOR, "unlabelled_share": "label_dropout"}),
    (GanConfig, "training", GENERATOR),
    (ConceptConfig, "training", {key: new for key, new in GENERATOR.items() if key != "average_decay"}),
    (ConceptConfig, "", {"start_from": "initializer_text", "sheet_steps": "num_inference_steps"}),
]


def renamed_in(model: type[BaseModel]) -> dict[str, str]:
    return {old: new for base in model.__mro__ for old, new in base.__dict__.get("renamed", {}).items()}


@pytest.mark.parametrize("name", [*OPERATORS, *GATES])
def test_an_old_parameter_names_the_new_one(name: str) -> None:
    model = (operator_class if name in OPERATORS else gate_class)(name).Params
    assert renamed_in(model) == PARTS.get(name, {})
    for old, new in PARTS.get(name, {}).items():
        assert new in model.model_fields and old not in model.model_fields
        with pytest.raises(RecipeError) as caught:
            parse(model, {old: 1}, f"recipe.x.{name}")
        assert str(caught.value) == f"recipe.x.{name}.{old}: unknown key; {old!r} is now called {new!r}"


@pytest.mark.parametrize(("old", "new"), INPUT.items())
def test_an_old_key_of_the_recipe_names_the_new_one(old: str, new: str, tmp_path: Path) -> None:
    recipe = yaml.safe_load(write_recipe(tmp_path).read_text())
    recipe["input"][old] = 12
    with pytest.raises(RecipeError, match=rf"^recipe\.input\.{old}: unknown key; '{old}' is now called '{new}'$"):
        parse(Recipe, recipe, "recipe")


@pytest.mark.parametrize(
    ("model", "section", "old", "new"),
    [(model, section, old, new) for model, section, keys in TRAINERS for old, new in keys.items()],
)
def test_an_old_key_of_a_trainer_names_the_new_one(
    model: type[Any], section: str, old: str, new: str, tmp_path: Path
) -> None:
    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump({section: {old: 1}} if section else {old: 1}))
    place = f"{section}.{old}" if section else old
    with pytest.raises(RecipeError, match=rf"train\.yaml: unknown key '{place}'; it is now called '{new}'$"):
        read_config(path, model)


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """A recipe, and its data set in the layout of the version before, with a file for each unit."""
    write_input(tmp_path / "data", 1, 4)
    recipe = write_recipe(tmp_path, [FLIP])
    run_here(plan_of(recipe))
    path, out = tmp_path / "out" / "manifest.json", tmp_path / "out"
    before = json.loads(path.read_text())
    path.write_text(json.dumps({"markers": {"sha256": before.pop("commits")["sha256"]}, **before}))
    for segment in (out / "_commits").iterdir():
        segment.unlink()
    (out / "_commits/flipped-00000.json").write_text("{}")
    return recipe


def test_a_data_set_of_an_earlier_layout_is_refused_in_one_line(earlier: Path) -> None:
    store, path = open_store(str(earlier.parent / "out")), earlier.parent / "out/manifest.json"
    for text, field in (
        (path.read_text(), "markers, now called commits"),
        (path.read_text().replace('"retried"', '"remade"').replace('"file_version"', '"stamp"'), "counts.remade, now"),
    ):
        path.write_text(text)
        with pytest.raises(InputError) as caught:
            read_manifest(store)
        line = str(caught.value)
        assert f"manifest.json: written by an earlier Palimpsest, '0.1.0', in another layout ({field}" in line
        assert "\n" not in line and "another output.uri" in line
    with pytest.raises(
        InputError, match=r"out/_commits/flipped-00000\.json: written by an earlier Palimpsest"
    ) as caught:
        CommitLog(store)
    assert "\n" not in str(caught.value) and "another output.uri" in str(caught.value)


@pytest.mark.parametrize("command", ["run", "verify", "report", "replay"])
def test_every_command_ends_with_exit_code_2(command: str, earlier: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = {
        "run": [str(earlier), "--executor", "inline"],
        "replay": [str(earlier.parent / "out"), "--sample-id", "x"],
    }
    assert main([command, *options.get(command, [str(earlier.parent / "out")])]) == 2
    told = capsys.readouterr().err.strip()
    assert "written by an earlier Palimpsest" in told and "another output.uri" in told
    assert "\n" not in told and "Traceback" not in told and "pydantic" not in told
