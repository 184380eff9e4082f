"""`train concept`, tiny: a word or a LoRA learns, nothing else does, and the operators use what was learnt."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from jobs.commands.train import train
from jobs.train import concept
from jobs.train.loop.config import read_config
from palimpsest.testing.operators import act, make_batch
from pipeline.contracts import Assets, Draws
from pipeline.diffusion.lora import METADATA_KEY, merge_lora
from pipeline.diffusion.textual_inversion import read_tokens
from pipeline.errors import InputError, JobError, ModelError, RecipeError
from pipeline.model_files.model_file import read_metadata
from pipeline.operators.diffusion.diffusion_edit import DiffusionEdit, DiffusionEditParams
from tests.fixtures.data_sets import plan_of, rows_of, run_here, write_recipe
from tests.fixtures.shard_files import photos, pictures, write_shard
from tests.fixtures.tiny_models import OWN_WARNING, unet, vae
from tests.fixtures.tiny_models import save as save_model
from tests.jobs.train.trainings import ROOT

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings(OWN_WARNING)]

STEPS = 12
CLASSES = ("ankle boot", "shirt")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five photographs of each of two classes, in folders that bear their names."""
    for index, pixels in enumerate(pictures(10, 20, 24)):
        path = tmp_path / "few" / CLASSES[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels // 4 + 190 * (index % 2)).save(path)
    return tmp_path


@pytest.fixture
def model(tiny: Callable[[str], Path]) -> Path:
    return tiny("stable")


def content(folder: Path, model: Path, **changes: Any) -> dict[str, Any]:
    budget = {"steps": STEPS, "seconds": 600, "checkpoint_seconds": 0.001, "logging_steps": 1, "grid_steps": STEPS}
    return {
        "out": str(folder / "runs"),
        "threads": 1,
        "model": str(model),
        "data": {"uri": str(folder / "few"), "size_px": 16},
        "per_class": 4,
        "num_inference_steps": 2,
        "training": budget | {"learning_rate": 0.05, "batch_size": 4, "warmup_steps": 0},
    } | changes


def task(folder: Path, model: Path, **changes: Any) -> concept.ConceptTask:
    path = written(folder, content(folder, model, **changes))
    config = read_config(path, concept.ConceptConfig)
    settings = config.model_dump() | {"prompt": config.prompt or concept.PROMPTS[config.method], "rank": 0}
    return concept.build(settings, torch.device("cpu"))


def written(folder: Path, settings: dict[str, Any]) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def weights_of(made: concept.ConceptTask) -> dict[str, torch.Tensor]:
    """Everything in the pipeline, copied."""
    parts = {name: getattr(made.model.pipeline, name).state_dict() for name in ("unet", "text_encoder", "vae")}
    return {f"{name}.{key}": value.clone() for name, part in parts.items() for key, value in part.items()}


@pytest.mark.parametrize("method", ["token", "lora"])
@pytest.mark.slow
def test_the_loss_falls_and_only_what_should_learn_changes(folder: Path, model: Path, method: str) -> None:
    made = task(folder, model, method=method)
    with torch.no_grad():  # drawn weights hardly listen to the prompt
        for name, weight in made.model.pipeline.unet.named_parameters():
            weight.mul_(20 if "attn2.to_out" in name else 1)
    before, start = weights_of(made), [each.detach().clone() for each in made.learned.parameters()]
    probes = range(1000, 1016)

    def probed() -> float:
        with torch.no_grad():
            return float(torch.stack([made.loss(step) for step in probes]).mean())

    first = probed()
    for step in range(60):
        made.step(step, 0.0)
    assert probed() < first - (0.003 if method == "token" else 0.02)
    after = weights_of(made)
    changed = [name for name, value in after.items() if not torch.equal(value, before[name])]
    assert changed == (["text_encoder.embeddings.token_embedding.vectors"] if method == "token" else [])
    assert not any(torch.equal(old, new) for old, new in zip(start, made.learned.parameters(), strict=True))
    assert {id(each) for group in made.optimiser.param_groups for each in group["params"]} == {
        id(each) for each in made.learned.parameters()
    }


@pytest.mark.parametrize("method", ["token", "lora"])
def test_a_restored_task_goes_on_to_the_last_bit(folder: Path, model: Path, method: str) -> None:
    one = task(folder, model, method=method)
    for step in range(3):
        one.step(step, step / 6)
    torch.save(one.state(), folder / "state.pt")
    other = task(folder, model, method=method)
    other.load_state(torch.load(folder / "state.pt"))
    assert [one.step(step, step / 6) for step in (3, 4)] == [other.step(step, step / 6) for step in (3, 4)]
    assert torch.equal(one.grid(), other.grid()) and one.grid().shape == (2, 2, 3, 16, 16)
    kept = one.state()["learned"]
    assert sum(value.numel() for value in kept.values()) == sum(each.numel() for each in one.learned.parameters())


def edited(model: Path, prompt: str, **files: Path) -> Any:
    """What `diffusion_edit` makes of one image with the files of these parameters."""
    named = {name: str(path) for name, path in files.items()}
    operator = DiffusionEdit(DiffusionEditParams(model=str(model), steps=4, **named))
    assert set(operator.requirements().models) == {"model", *files}
    operator.load("cpu", Assets(models={"model": model, **files}))
    told = {"class_index": [-1], "strength": [1.0], "guidance": [7.0], "prompt": [prompt], "negative_prompt": [""]}
    return act(operator, make_batch([0], (16, 16), 3), Draws(told)).images


def test_the_words_are_used_by_the_operators(folder: Path, model: Path) -> None:
    made = task(folder, model)
    made.export(folder / "before")
    for step in range(STEPS):
        made.step(step, 0.0)
    made.export(folder / "after")
    files = [folder / when / concept.MODEL_FILE for when in ("before", "after")]
    found = read_tokens(files[1])
    assert set(found) == {"<ankle boot>", "<shirt>"}
    torch.testing.assert_close(found["<shirt>"], made.learner.module[0][1].detach())
    prompt = "a photograph of a <shirt>"
    old, new = (edited(model, prompt, textual_inversion=file) for file in files)
    assert (old != new).any() and (edited(model, prompt, textual_inversion=files[1]) == new).all()
    assert (edited(model, "a shirt", textual_inversion=files[1]) == edited(model, "a shirt")).all()
    about = read_metadata(files[1])["about"]
    assert f"{STEPS} steps" in about and str(folder) not in about


def test_the_adapter_is_what_the_trainer_had(folder: Path, model: Path) -> None:
    made = task(folder, model, method="lora", lora={"rank": 2, "alpha": 4.0})
    for step in range(STEPS):
        made.step(step, 0.0)
    made.export(folder)
    path = folder / concept.MODEL_FILE
    settings = json.loads(read_metadata(path)[METADATA_KEY])
    assert (settings["unet.r"], settings["unet.lora_alpha"]) == (2, 4.0)
    plain = task(folder, model)
    layers = merge_lora(plain.model.pipeline, path, 1.0)
    assert layers == len(made.learner.module.names)
    latents, _ = made._latents(made.generator_of(0))
    times, words = torch.tensor([1, 300, 600, 900]), made.model.encode_prompts(["a shirt"] * 4)
    with torch.no_grad():
        answers = [each.model.predict(latents, times, words) for each in (made, plain)]
    torch.testing.assert_close(answers[0], answers[1], atol=1e-4, rtol=1e-3)
    assert (edited(model, "a shirt", lora=path) != edited(model, "a shirt")).any()


def test_a_run_with_learned_words_says_which_file_they_came_from(folder: Path, model: Path) -> None:
    made = task(folder, model)
    made.export(folder)
    write_shard(folder / "data" / "train-0.parquet", photos(3), labels=[0, 1, 0], class_names=CLASSES)
    params = {
        "model": str(model),
        "steps": 4,
        "textual_inversion": concept.MODEL_FILE,
        "prompt": "a <{label}>",
        "strength_range": [1, 1],
    }
    plan = plan_of(write_recipe(folder, [{"name": "made", "operators": [{"diffusion_edit": params}]}]))
    manifest, _ = run_here(plan)
    assert manifest.complete
    (step,) = rows_of(folder / "out")[0]["steps"]
    assert plan.branches[-1].steps[0].models["textual_inversion"].sha256 in json.dumps(step)


def test_few_images_are_chosen_and_mirrored(folder: Path, model: Path) -> None:
    made = task(folder, model)
    assert made.images.labels.bincount().tolist() == [4, 4] and made.means.shape == (16, 4, 8, 8)
    still = task(folder, model, flip=False)
    assert made.prompts == {0: "a photograph of a <ankle boot>", 1: "a photograph of a <shirt>"}
    still.deviations.zero_()
    rows = [still._latents(still.generator_of(step))[0] for step in range(20)]
    near = [int((still.means - each).square().sum((1, 2, 3)).argmin()) for batch in rows for each in batch]
    assert max(near) < 8 and len(set(near)) == 8
    made.deviations.zero_()
    rows = [made._latents(made.generator_of(step))[0] for step in range(60)]
    near = [int((made.means - each).square().sum((1, 2, 3)).argmin()) for batch in rows for each in batch]
    assert len(set(near)) == 16 and 0.4 < np.mean([row >= 8 for row in near]) < 0.6
    wide = task(folder, model, per_class=None)
    assert wide.images.labels.bincount().tolist() == [5, 5]


def test_velocity_is_predicted_where_the_model_does(folder: Path, model: Path, tmp_path: Path) -> None:
    kept = (model / "scheduler" / "scheduler_config.json").read_text()
    other = save_model("stable", tmp_path)
    settings = json.loads(kept) | {"prediction_type": "v_prediction"}
    (other / "scheduler" / "scheduler_config.json").write_text(json.dumps(settings))
    one, two = task(folder, model), task(folder, other)
    assert (one.model.kind, two.model.kind) == ("epsilon", "v_prediction")
    assert one.loss(0).item() != two.loss(0).item()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"method": "words"}, RecipeError, "method: Input should be 'token' or 'lora'"),
        ({"metod": "lora"}, RecipeError, "unknown key 'metod'; did you mean 'method'"),
        ({"prompt": "a photograph of a {label}"}, RecipeError, "has no <{label}>, which is the word"),
        ({"prompt": "<{label}>, {caption}"}, RecipeError, "names a column; there is {label} alone"),
        ({"prompt": "<{label}> }"}, RecipeError, "a brace that stands alone"),
        ({"model": "nobody-here"}, ModelError, "nobody-here"),
        ({"initializer_text": " "}, ModelError, "no word in"),
    ],
)
def test_a_wrong_configuration_is_one_line(
    folder: Path, model: Path, change: dict[str, Any], error: type[JobError], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        train("concept", str(written(folder, content(folder, model) | change)))
    assert "\n" not in str(caught.value)


def test_images_that_do_not_fit_are_one_line(folder: Path, model: Path) -> None:
    write_shard(folder / "bare.parquet", photos(3), labels=[0, None, 1], class_names=CLASSES)
    write_shard(folder / "twins.parquet", photos(3), labels=[0, 1, 1], class_names=["bag", "bag"])
    for data, error, message in (
        ({"uri": str(folder / "bare.parquet"), "size_px": 16}, InputError, "some have no label"),
        ({"uri": str(folder / "twins.parquet"), "size_px": 16}, InputError, "bag is there twice; .*data.classes"),
        ({"uri": str(folder / "nowhere"), "size_px": 16}, InputError, "no file matches"),
        ({"uri": str(folder / "few"), "size_px": 17}, ModelError, "size_px 17 is no multiple of 2; give 18"),
    ):
        with pytest.raises(error, match=message):
            train("concept", str(written(folder, content(folder, model) | {"data": data})))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("large", "StableDiffusionXLPipeline cannot be taught; needed: Stable Diffusion 1 or 2"),
        ("third", "cannot be taught"),
        ("consistency", "is distilled; teach the model it was made from"),
        ("wide", "takes more than an image"),
    ],
)
def test_models_that_cannot_be_taught_are_one_line(
    folder: Path, tiny: Callable[[str], Path], kind: str, message: str
) -> None:
    if kind == "wide":
        found = save_model("stable", folder)
        unet(in_channels=9).save_pretrained(found / "unet")
        vae().save_pretrained(found / "vae")
    else:
        found = tiny(kind)
    with pytest.raises(ModelError, match=message) as caught:
        train("concept", str(written(folder, content(folder, found))))
    assert "\n" not in str(caught.value)


def test_the_committed_configuration_is_valid() -> None:
    config = read_config(ROOT / "jobs" / "recipes" / "train_concept.yaml", concept.ConceptConfig)
    assert concept._checked(config) == concept.PROMPTS["token"] and config.data.held_out == 0
