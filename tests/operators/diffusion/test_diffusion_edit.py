"""DiffusionEdit: real networks and pipelines made tiny, saved to folders as a user has them."""

import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from palimpsest.testing.operators import CLASSES, OperatorConformance, act, assert_near, make_batch
from pipeline.contracts import Assets, Draws, ImageBatch
from pipeline.errors import InputError, JobError, ModelError, RecipeError
from pipeline.model_files.folders import folder_sha256
from pipeline.networks.generators import samplers
from pipeline.networks.generators.flow_matching import load_flow
from pipeline.noise import Noise
from pipeline.operators.diffusion.diffusion_edit import DiffusionEdit, DiffusionEditParams
from pipeline.validation import parse
from tests.fixtures.tiny_models import OWN_WARNING, save
from tests.operators.diffusion.test_diffusion_generate import assets_in

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings(OWN_WARNING)]


@pytest.fixture
def pipeline_folder(tiny: Callable[[str], Path]) -> Path:
    """Stable Diffusion with a few channels everywhere: 16 px images, prompts of letters."""
    return tiny("stable")


def loaded(path: Path, **params: Any) -> DiffusionEdit:
    operator = DiffusionEdit(DiffusionEditParams(**{"steps": 4, "strength_range": (0.5, 1.0)} | params))
    operator.load("cpu", Assets(models={"model": path}))
    return operator


def pixel_model(folder: Path, classes: tuple[str, ...] = CLASSES, channels: int = 1) -> Path:
    return assets_in(folder, classes, channels).models["model"]


class TestDiffusionEditConformance(OperatorConformance):
    operator = DiffusionEdit
    params: ClassVar = {"model": "tiny.safetensors", "steps": 4, "strength_range": [0.3, 0.8], "guidance": 2.0}
    tolerance = 1

    def assets(self, folder: Path) -> Assets:
        return assets_in(folder)


class TestPipelineConformance(OperatorConformance):
    operator = DiffusionEdit
    params: ClassVar = {"model": "safe", "steps": 4, "strength_range": [0.3, 0.8], "guidance": 3.0}
    tolerance = 1
    sizes: ClassVar = ((28, 28), (1, 1), (7, 33))

    @pytest.fixture(autouse=True)
    def _folder(self, pipeline_folder: Path) -> None:
        self.folder = pipeline_folder

    def assets(self, folder: Path) -> Assets:
        return Assets(models={"model": self.folder})


# ---- the pixel model -------------------------------------------------------------------------------------------------


def test_an_image_is_the_samplers_from_its_own_noise_and_strength(tmp_path: Path) -> None:
    operator = loaded(pixel_model(tmp_path))
    batch = make_batch(list(range(6)), (8, 8), 1)
    assert batch.images is not None
    draws = operator.draw(batch)
    images = act(operator, batch, draws).images
    net, _ = load_flow(tmp_path / "tiny.safetensors")
    for index in range(6):
        source = torch.from_numpy(batch.images[[index]]).permute(0, 3, 1, 2) / 127.5 - 1
        noise, run = Noise([batch.seeds[index]]).normal(1, 8, 8), round(draws.columns["strength"][index] * 4)
        start = (1 - run / 4) * source + run / 4 * noise
        with torch.inference_mode():
            for left in range(run, 0, -1):
                start = start - net(start, torch.tensor([left / 4]), torch.tensor([index % 3])) / 4
        wanted = ((start.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy().transpose(0, 2, 3, 1)
        assert_near(images[index], wanted[0], 1)


def test_strengths_are_whole_steps_each_as_often(tmp_path: Path) -> None:
    operator = loaded(pixel_model(tmp_path), steps=10, strength_range=(0.35, 0.6))
    strengths = operator.draw(make_batch(list(range(2000)), (8, 8))).columns["strength"]
    counts = Counter(strengths)
    assert set(counts) == {0.3, 0.4, 0.5, 0.6}
    assert sum((count - 500) ** 2 / 500 for count in counts.values()) < 16.3  # 3 degrees, p = 0.001


def test_more_strength_is_farther_from_the_source(tmp_path: Path) -> None:
    operator = loaded(pixel_model(tmp_path), steps=10)
    batch = make_batch(list(range(8)), (8, 8))
    assert batch.images is not None
    away = []
    for strength in (0.1, 0.5, 1.0):
        columns = {"class_index": [0] * 8, "strength": [strength] * 8, "guidance": [1.0] * 8}
        images = act(operator, batch, Draws(columns)).images
        away.append(np.abs(images.astype(int) - batch.images).mean())
    assert away[0] < away[1] < away[2]


def test_the_runner_may_ask_for_one_strength_at_a_time(tmp_path: Path) -> None:
    operator = loaded(pixel_model(tmp_path))
    assert operator.once_per_call == ("strength",)
    batch = make_batch(list(range(8)), (8, 8))
    draws = operator.draw(batch)
    together = act(operator, batch, draws).images
    for strength in set(draws.columns["strength"]):
        rows = [row for row in range(8) if draws.columns["strength"][row] == strength]
        part = make_batch(rows, (8, 8))
        assert_near(act(operator, part).images, together[rows], 1)


def test_other_sizes_and_channels_come_back_as_the_models_own(tmp_path: Path) -> None:
    for channels in (1, 3):
        operator = loaded(pixel_model(tmp_path, channels=channels))
        for size, given in (((40, 20), 3), ((8, 8), 1), ((1, 1), 3)):
            assert act(operator, make_batch([0, 1], size, given)).images.shape == (2, 8, 8, channels)


def test_classes_go_by_name_and_none_asks_for_none(tmp_path: Path) -> None:
    path = pixel_model(tmp_path, ("BAG", "Shirt"))
    images = make_batch([0, 1, 2], (8, 8)).images
    batch = ImageBatch(images, [1, 2, 3], np.array([0, 1, 2]), CLASSES)
    operator = loaded(path)
    assert operator.draw(batch).columns["class_index"] == [1, -1, 0]
    assert {row: error.code for row, error in act(operator, batch).errors.items()} == {1: "unknown_class"}
    free = loaded(path, condition="none")
    assert free.draw(batch).columns["class_index"] == [-1, -1, -1]
    assert not act(free, batch).errors


def test_what_is_not_finite_is_rejected(tmp_path: Path) -> None:
    operator = loaded(pixel_model(tmp_path))
    operator._backend.net.label.weight[1] = torch.nan
    applied = act(operator, make_batch([0, 1, 2], (8, 8)))
    assert applied.rejected == {1: "non_finite"} and not applied.images[1].any() and applied.images[0].any()


def test_without_images_it_says_where_to_put_it(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="put it after an operator that makes some"):
        act(loaded(pixel_model(tmp_path)), make_batch([0], None))


# ---- pipelines -------------------------------------------------------------------------------------------------------


def test_a_pipeline_gets_one_call_a_strength_and_one_generator_a_sample(pipeline_folder: Path) -> None:
    operator = loaded(pipeline_folder, guidance=3.0)
    batch = make_batch(list(range(6)), (16, 16), 3)
    draws = operator.draw(batch)
    assert draws.columns["prompt"][:3] == ["a photograph of a shirt", "a photograph of a shoe", "a photograph of a bag"]
    calls = []
    whole = type(operator._backend.pipeline.pipeline).__call__

    class Counted(type(operator._backend.pipeline.pipeline)):  # type: ignore[misc]  # the class is the folder's
        def __call__(self, *given: Any, **named: Any) -> Any:
            calls.append(len(named["prompt_embeds"]))
            return whole(self, *given, **named)

    operator._backend.pipeline.pipeline.__class__ = Counted
    images = act(operator, batch, draws).images
    assert images.shape == (6, 16, 16, 3) and images.std() > 1
    assert sorted(calls) == sorted(Counter(draws.columns["strength"]).values())


def test_the_prompt_the_seed_and_the_strength_change_the_image(pipeline_folder: Path) -> None:
    operator = loaded(pipeline_folder, guidance=3.0)
    batch = make_batch([0], (16, 16), 3)
    columns = {
        "class_index": [-1],
        "strength": [0.75],
        "guidance": [3.0],
        "prompt": ["a shirt"],
        "negative_prompt": [""],
    }
    plain = act(operator, batch, Draws(columns)).images
    np.testing.assert_array_equal(act(operator, batch, Draws(columns)).images, plain)
    assert (act(operator, batch, Draws(columns | {"strength": [0.25]})).images != plain).any()
    other = ImageBatch(batch.images, [7], batch.labels, CLASSES)
    assert (act(operator, other, Draws(columns)).images != plain).any()


def test_a_prompt_without_a_class_leaves_the_name_out(pipeline_folder: Path) -> None:
    batch = ImageBatch(None, [1, 2], np.array([-1, 0]), CLASSES)
    assert loaded(pipeline_folder).draw(batch).columns["prompt"] == ["a photograph of a", "a photograph of a shirt"]
    free = loaded(pipeline_folder, condition="none", prompt="{label} on a table")
    assert free.draw(batch).columns["prompt"] == ["on a table", "on a table"]


def test_a_size_of_ones_own_must_fit_the_latents(pipeline_folder: Path) -> None:
    operator = loaded(pipeline_folder, size_px=32)
    assert act(operator, make_batch([0], (16, 16), 3)).images.shape == (1, 32, 32, 3)
    with pytest.raises(ModelError, match="size_px 33 is no multiple of 2; give 34"):
        loaded(pipeline_folder, size_px=33)


def test_folders_without_a_pipeline_or_without_safetensors_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"there is no model_index\.json in it"):
        loaded(tmp_path / "empty")
    pickled = save("stable", tmp_path, safe_serialization=False)
    for path in pickled.rglob("*.safetensors"):
        path.rename(path.with_suffix(".bin"))
    with pytest.raises(ModelError, match="not usable") as caught:
        loaded(pickled)
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match=r"no \.safetensors file in it"):
        folder_sha256(pickled)


def test_a_folder_is_known_by_what_is_in_it(pipeline_folder: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(pipeline_folder, tmp_path / "copy")
    assert folder_sha256(tmp_path / "copy") == folder_sha256(pipeline_folder)
    (tmp_path / "copy" / "scheduler" / "scheduler_config.json").write_text("{}")
    assert folder_sha256(tmp_path / "copy") != folder_sha256(pipeline_folder)


# ---- every kind of model ---------------------------------------------------------------------------------------------

KINDS = ("stable", "large", "third", "consistency", "dit", "pixel")


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_alone_is_the_one_in_a_batch_and_seeds_and_strength_decide(
    kind: str, tiny: Callable[[str], Path]
) -> None:
    operator = loaded(tiny(kind), guidance_range=(1.0, 3.0))
    batch = make_batch(list(range(8)), (16, 16), 3)
    draws = operator.draw(batch)
    assert len(set(draws.columns["strength"])) > 1 and len(set(draws.columns["guidance"])) > 1
    applied = act(operator, batch, draws)
    assert not applied.errors and not applied.rejected
    for index in (0, 3, 6):
        assert_near(act(operator, make_batch([index], (16, 16), 3)).images[0], applied.images[index], 1)
    one = make_batch([0], (16, 16), 3)
    row = {name: values[:1] for name, values in draws.columns.items()}
    weak, strong = (act(operator, one, Draws(row | {"strength": [share]})).images for share in (0.25, 1.0))
    assert (weak != strong).any()
    other = ImageBatch(one.images, [7], one.labels, CLASSES)
    assert (act(operator, other, Draws(row | {"strength": [1.0]})).images != strong).any()


@pytest.mark.parametrize("kind", KINDS)
def test_the_steps_that_are_run_are_the_strengths_share(kind: str, tiny: Callable[[str], Path]) -> None:
    operator = loaded(tiny(kind), steps=10, strength_range=(0.1, 1.0))
    backend = operator._backend
    owner = backend.pipeline.pipeline if backend.takes_text else backend.model
    network = getattr(owner, "unet", None) or owner.transformer
    calls: list[int] = []
    handle = network.register_forward_pre_hook(lambda *_: calls.append(1))
    for run in (1, 3, 7, 10):
        calls.clear()
        columns = {"class_index": [0], "strength": [run / 10], "guidance": [1.0]}
        text = {"prompt": ["a shoe"], "negative_prompt": [""]} if backend.takes_text else {}
        act(operator, make_batch([0], (16, 16), 3), Draws(columns | text))
        assert len(calls) == run
    handle.remove()


@pytest.mark.parametrize("kind", ["stable", "large", "dit", "pixel"])
def test_schedulers_go_by_name_and_each_is_another(kind: str, tiny: Callable[[str], Path]) -> None:
    batch = make_batch([0, 1], (16, 16), 3)
    names = ("ddim", "ddpm", "dpm++2m", "euler", "lcm", "unipc")
    made = {}
    for name in names:
        operator = loaded(tiny(kind), scheduler=name, steps=6, strength_range=(1, 1))
        applied = act(operator, batch)
        made[name] = applied.images
        assert_near(act(operator, make_batch([1], (16, 16), 3)).images[0], made[name][1], 2)
        assert not applied.rejected
    assert len({images.tobytes() for images in made.values()}) >= len(names) - 1  # some solvers agree at a few steps


def test_a_flow_matching_model_keeps_its_own_scheduler(tiny: Callable[[str], Path]) -> None:
    with pytest.raises(ModelError, match=r"scheduler 'ddim' does not fit a flow-matching model; leave `scheduler` out"):
        loaded(tiny("third"), scheduler="ddim")
    with pytest.raises(RecipeError, match=r"scheduler = 'dimm': Input should be 'ddim', 'ddpm'"):
        parse(DiffusionEditParams, {"scheduler": "dimm"}, "diffusion_edit")


def test_a_consistency_model_runs_no_more_steps_than_it_was_distilled_for(tiny: Callable[[str], Path]) -> None:
    with pytest.raises(ModelError, match="LCMScheduler takes at most 50 steps; steps is 60"):
        loaded(tiny("consistency"), steps=60)
    with pytest.raises(ModelError, match="takes no negative prompt; leave it out"):
        loaded(tiny("consistency"), negative_prompt="blur")


def test_what_a_safety_checker_flags_is_rejected_as_unsafe(tiny: Callable[[str], Path]) -> None:
    applied = act(loaded(tiny("guarded")), make_batch([0, 1, 2], (16, 16), 3))
    assert applied.rejected == dict.fromkeys(range(3), "unsafe") and not applied.errors


def test_models_in_folders_and_in_files_take_different_settings(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    for params in ({"scheduler": "ddim"}, {"size_px": 16}):
        with pytest.raises(ModelError, match="is for models in a folder; leave it out"):
            loaded(pixel_model(tmp_path), **params)
    with pytest.raises(ModelError, match="method 'heun' is for models in one file"):
        loaded(tiny("stable"), method="heun")
    with pytest.raises(ModelError, match="a class-conditional model has one size"):
        loaded(tiny("pixel"), size_px=16)


# ---- prompts ---------------------------------------------------------------------------------------------------------


def told(captions: list[Any]) -> ImageBatch:
    batch = make_batch(list(range(len(captions))), (16, 16), 3)
    return ImageBatch(batch.images, batch.seeds, batch.labels, CLASSES, {"caption": captions})


def test_templates_are_drawn_by_weight_and_filled_from_columns(tiny: Callable[[str], Path]) -> None:
    prompt = [["a {label}", 1], ["{column:caption} of a {label}", 3]]
    operator = loaded(tiny("stable"), prompt=prompt, negative_prompt="blur {caption}", guidance=3.0)
    draws = operator.draw(told(["red"] * 400))
    counts = Counter("red" in text for text in draws.columns["prompt"])
    assert 255 < counts[True] < 345  # 300 expected, five standard deviations
    assert set(draws.columns["prompt"][:3]) <= {f"{lead}a {name}" for lead in ("", "red of ") for name in CLASSES}
    assert draws.columns["negative_prompt"] == ["blur red"] * 400
    assert draws.columns["prompt_sha256"][0] == hashlib.sha256(draws.columns["prompt"][0].encode()).hexdigest()


def test_a_null_in_a_prompt_column_is_an_error_of_its_row_alone(tiny: Callable[[str], Path]) -> None:
    operator = loaded(tiny("stable"), prompt="{caption}")
    batch = told(["red", None, "blue"])
    applied = act(operator, batch)
    assert {row: error.code for row, error in applied.errors.items()} == {1: "no_prompt"}
    assert operator.draw(batch).columns["prompt"] == ["red", None, "blue"]


def test_a_prompt_column_that_is_not_there_is_one_clear_line(tiny: Callable[[str], Path]) -> None:
    operator = loaded(tiny("stable"), prompt="{captoin} of a {label}")
    with pytest.raises(InputError, match=r"no column 'captoin' to fill {captoin} with \(columns: caption\)"):
        operator.draw(told(["red"]))
    with pytest.raises(RecipeError, match="has a brace that stands alone"):
        parse(DiffusionEditParams, {"prompt": "a {label"}, "diffusion_edit")


def test_a_text_is_encoded_once_and_prompts_and_negatives_count(tiny: Callable[[str], Path]) -> None:
    for kind in ("stable", "large", "third"):
        operator = loaded(tiny(kind), prompt="{caption}", guidance=4.0, strength_range=(1, 1))
        batch = told(["red", "blue"] * 4)
        act(operator, batch)
        assert operator._backend.pipeline._texts.encoded == 2
        one = make_batch([0], (16, 16), 3)
        row = {"class_index": [-1], "strength": [1.0], "guidance": [4.0], "prompt": ["red"], "negative_prompt": [""]}
        plain = act(operator, one, Draws(row)).images
        for other in ({"prompt": ["blue"]}, {"negative_prompt": ["soft"]}, {"guidance": [1.5]}):
            assert (act(operator, one, Draws(row | other)).images != plain).any(), (kind, other)


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strength_range", [(-0.1, 0.5), (0.5, 1.1), (0.9, 0.3)])
def test_a_strength_out_of_range_is_refused(strength_range: tuple[float, float]) -> None:
    with pytest.raises(RecipeError, match=r"strength_range = .*within \[0, 1\], the smaller one first"):
        parse(DiffusionEditParams, {"strength_range": strength_range}, "diffusion_edit")


def test_a_strength_that_runs_no_step_names_the_smallest_usable() -> None:
    with pytest.raises(RecipeError, match=r"strength 0.05 of 10 steps runs no step; the smallest usable .* is 0.1"):
        parse(DiffusionEditParams, {"strength_range": [0.05, 0.5]}, "diffusion_edit")
    with pytest.raises(RecipeError, match=r"the smallest usable strength is 0.5"):
        parse(DiffusionEditParams, {"steps": 2}, "diffusion_edit")


def test_whole_strength_is_generation(tmp_path: Path) -> None:
    operator = loaded(pixel_model(tmp_path), strength_range=(1, 1))
    batch = make_batch([0, 1], (8, 8))
    net, _ = load_flow(tmp_path / "tiny.safetensors")
    with torch.inference_mode():
        made = samplers.sample(net, Noise(batch.seeds).normal(1, 8, 8), torch.tensor([0, 1]), 4)
    wanted = ((made.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy().transpose(0, 2, 3, 1)
    assert_near(act(operator, batch).images, wanted, 1)


def test_strengths_may_be_a_list_with_probabilities(tmp_path: Path) -> None:
    for strengths in ([[0.3, 1], [0.6, 3]], {0.3: 0.25, 0.6: 0.75}):
        operator = loaded(pixel_model(tmp_path), steps=10, strengths=strengths)
        counts = Counter(operator.draw(make_batch(list(range(1000)), (8, 8))).columns["strength"])
        assert set(counts) == {0.3, 0.6} and 680 < counts[0.6] < 820  # 750 expected, five standard deviations
    for strengths, message in (([[0.05, 1]], "runs no step"), ([[0.5, 0]], "weights above 0"), ([[2, 1]], "within")):
        with pytest.raises(RecipeError, match=message):
            parse(DiffusionEditParams, {"strengths": strengths}, "diffusion_edit")
