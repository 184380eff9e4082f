"""CLIP guidance: where a scheduler reads a clean image, and images that look more like their text. Tiny classes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from palimpsest.testing.operators import CLASSES, act, assert_near, make_batch
from pipeline.contracts import Applied, Assets, ImageBatch
from pipeline.diffusion.text_guidance import TextGuidance, clean_image_coefficients
from pipeline.errors import ModelError, RecipeError
from pipeline.networks.clip import TextImageModel
from pipeline.noise import Noise
from pipeline.operators.bases.diffusion_parameters import DiffusionParameters
from pipeline.operators.diffusion.diffusion_edit import DiffusionEdit, DiffusionEditParams
from pipeline.operators.diffusion.diffusion_generate import DiffusionGenerate, DiffusionGenerateParams
from pipeline.validation import parse
from tests.fixtures.tiny_models import OWN_WARNING
from tests.operators.diffusion.test_diffusion_generate import assets_in

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings(OWN_WARNING)]

TEXTS = ["a photo of a shirt", "a photo of a shoe", "a photo of a bag"]
KINDS = ("flow", "stable", "third", "consistency", "dit", "pixel")
COUNT = 6


@pytest.fixture
def model(tmp_path: Path, tiny: Callable[[str], Path]) -> Callable[[str], Path]:
    return lambda kind: assets_in(tmp_path).models["model"] if kind == "flow" else tiny(kind)


def opened(path: Path, clip: Path | None, dtype: Any = "float32", edit: bool = False, **params: Any) -> Any:
    given: dict[str, Any] = {"steps": 6, "prompt": "a photo of a {label}", **params}
    if clip is not None:
        given["clip_model"] = str(clip)
    made: Any = DiffusionEdit(DiffusionEditParams(strength_range=(0.5, 1.0), **given)) if edit else None
    made = made or DiffusionGenerate(DiffusionGenerateParams(**given))
    models = {"model": path} if clip is None else {"model": path, "clip_model": clip}
    made.load("cpu", Assets(models=models, dtype=dtype))
    return made


def painted(operator: Any, indexes: list[int], edit: bool = False) -> Applied:
    return act(operator, make_batch(indexes, (16, 16) if edit else None, 3))


def likeness(clip: Path, applied: Applied) -> float:
    """The mean cosine of each image with its own class's text, as the gate `clip` sees it."""
    cosines = TextImageModel(clip, "cpu").cosines(applied.images, TEXTS)
    return float(np.mean([cosines[row, row % 3] for row in range(len(cosines))]))


@pytest.mark.parametrize("edit", [False, True], ids=["new", "edited"])
@pytest.mark.parametrize("kind", KINDS)
def test_more_pull_is_more_likeness_and_none_is_nothing(
    kind: str, edit: bool, model: Callable[[str], Path], tiny: Callable[[str], Path]
) -> None:
    path, clip, rows = model(kind), tiny("clip"), list(range(COUNT))
    without = painted(opened(path, None, edit=edit), rows, edit)
    nothing = painted(opened(path, clip, edit=edit, clip_guidance_scale=0.0), rows, edit)
    np.testing.assert_array_equal(nothing.images, without.images)
    strong = opened(path, clip, edit=edit, clip_guidance_scale=0.6)
    pulled = painted(strong, rows, edit)
    assert likeness(clip, pulled) > likeness(clip, without) + 0.005
    np.testing.assert_array_equal(painted(strong, rows, edit).images, pulled.images)


@pytest.mark.parametrize("kind", ["flow", "stable", "pixel"])
def test_an_image_is_pulled_by_its_own_gradient_alone(
    kind: str, model: Callable[[str], Path], tiny: Callable[[str], Path]
) -> None:
    operator = opened(model(kind), tiny("clip"), clip_guidance_scale=0.3, guidance=2.0)
    together = painted(operator, list(range(COUNT))).images
    for row in (0, 4):
        assert_near(painted(operator, [row]).images[0], together[row], 2)


def test_how_far_an_image_is_moved_is_the_scale_at_most(tiny: Callable[[str], Path]) -> None:
    text_guidance = TextGuidance(TextImageModel(tiny("clip"), "cpu"), 0.25)
    clean = Noise([1, 2, 3]).normal(1, 8, 8).clamp(-1, 1)
    text_guidance.texts = ["a shoe", "", "a bag"]
    moved = text_guidance(clean)
    assert moved.square().mean(dim=(1, 2, 3)).sqrt().tolist() == pytest.approx([0.25, 0.0, 0.25], abs=1e-5)
    assert not moved.requires_grad
    torch.testing.assert_close(text_guidance(clean.clone())[0], moved[0])
    before, after = ((each + 1) / 2 for each in (clean, clean + 0.1 * moved))
    score_gates = TextImageModel(tiny("clip"), "cpu")
    texts = ["a shoe", "a shoe", "a bag"]
    old, new = (score_gates.similarity_to_text(each.expand(-1, 3, -1, -1), texts) for each in (before, after))
    assert new[0] > old[0] and new[2] > old[2] and new[1] == old[1]


def test_the_text_is_the_prompt_or_the_class_or_what_is_given(
    model: Callable[[str], Path], tiny: Callable[[str], Path]
) -> None:
    clip, batch = tiny("clip"), ImageBatch(None, [1, 2], np.array([1, -1]), CLASSES)
    drawn = opened(model("flow"), clip).draw(batch).columns
    assert drawn["clip_prompt"] == ["a photo of a shoe", ""]
    free = opened(model("flow"), clip, clip_guidance_scale=0.0)
    np.testing.assert_array_equal(
        act(opened(model("flow"), clip), batch).images[1], act(free, batch).images[1]
    )  # of no class: pulled nowhere
    drawn = opened(model("stable"), clip, prompt="a {label} on a table").draw(batch).columns
    assert drawn["clip_prompt"] == drawn["prompt"]
    told = opened(model("stable"), clip, clip_prompt="one {label}, seen from above").draw(batch).columns
    assert told["clip_prompt"] == ["one shoe, seen from above", "one , seen from above"]


def test_a_null_in_the_texts_column_is_an_error_of_its_row(
    model: Callable[[str], Path], tiny: Callable[[str], Path]
) -> None:
    operator = opened(model("flow"), tiny("clip"), edit=True, clip_prompt="{caption}")
    batch = make_batch([0, 1], (8, 8))
    told = ImageBatch(batch.images, batch.seeds, batch.labels, CLASSES, {"caption": ["red", None]})
    assert {row: error.code for row, error in act(operator, told).errors.items()} == {1: "no_prompt"}


def test_what_cannot_be_pulled_says_so(model: Callable[[str], Path], tiny: Callable[[str], Path]) -> None:
    clip = tiny("clip")
    with pytest.raises(ModelError, match="FluxPipeline has no latents that CLIP could be shown; leave clip_model out"):
        opened(model("flux"), clip, size_px=16)
    with pytest.raises(
        ModelError, match=r"overflows in float16.*use numerics\.dtype bfloat16, or leave clip_model out"
    ):
        opened(model("large"), clip, dtype="float16")
    with pytest.raises(ModelError, match="names no text and image networks"):
        opened(model("flow"), tiny("stable"))
    with pytest.raises(RecipeError, match="brace that stands alone"):
        parse(DiffusionParameters, {"clip_prompt": "a {label"}, "x")


def test_code_in_a_clip_models_folder_is_never_run(tmp_path: Path, tiny: Callable[[str], Path]) -> None:
    folder = shutil.copytree(tiny("clip"), tmp_path / "foreign")
    (folder / "foreign.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Net: pass\nclass Words: pass\n")
    config = json.loads((folder / "config.json").read_text())
    foreign = {"AutoModel": "foreign.Net", "AutoTokenizer": ["foreign.Words", None]}
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": foreign, "model_type": "foreign"}))
    with pytest.raises(ModelError, match="no CLIP model") as caught:
        TextImageModel(folder, "cpu")
    assert "\n" not in str(caught.value) and not (tmp_path / "ran").exists()


SCHEDULERS: dict[str, dict[str, Any]] = {
    "DDIMScheduler": {},
    "DDPMScheduler": {},
    "DPMSolverMultistepScheduler": {},
    "EulerDiscreteScheduler": {},
    "FlowMatchEulerDiscreteScheduler": {"shift": 3.0},
    "LCMScheduler": {},
    "PNDMScheduler": {"skip_prk_steps": True},
    "UniPCMultistepScheduler": {},
}


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", sorted(SCHEDULERS))
def test_a_clean_image_is_read_from_what_each_scheduler_is_told(name: str, kind: str) -> None:
    import diffusers

    flow = name.startswith("FlowMatch")
    scheduler = getattr(diffusers, name)(**SCHEDULERS[name], **({} if flow else {"prediction_type": kind}))
    scheduler.set_timesteps(8)
    image, noise = Noise([1, 2]).normal(1, 4, 4), Noise([3, 4]).normal(1, 4, 4)
    time = scheduler.timesteps[3]
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(3)
    at = time.reshape(1)
    sample = scheduler.scale_noise(image, at, noise) if flow else scheduler.add_noise(image, noise, at)
    of_sample, of_answer, share = clean_image_coefficients(scheduler, time)
    if flow:
        answer = noise - image
    else:
        signal = (1 - share**2) ** 0.5
        answer = noise if kind == "epsilon" else signal * noise - share * image
    torch.testing.assert_close(of_sample * sample + of_answer * answer, image, atol=1e-3, rtol=1e-3)
    assert 0 < share <= 1
