"""DiffusionEdit: a real pixel network made tiny, and a real Stable Diffusion pipeline made tiny, saved to a folder."""

import json
import string
import warnings
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from pipeline.contracts import Draws, ImageBatch, Supply
from pipeline.errors import JobError, ModelError, RecipeError
from pipeline.models import samplers
from pipeline.models.diffusion import load_flow
from pipeline.models.folders import folder_sha256
from pipeline.noise import Noise
from pipeline.operators.diffusion_edit import DiffusionEdit, DiffusionEditParams
from pipeline.validation import parse
from tests.operators.conformance import CLASSES, OperatorConformance, act, assert_near, make_batch
from tests.operators.test_diffusion_generate import supply_in

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def pipeline_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stable Diffusion with a few channels everywhere: 16 px images, prompts of letters."""
    folder = tmp_path_factory.mktemp("pipeline")
    _tiny_pipeline(folder).save_pretrained(folder / "safe")
    return folder / "safe"


def _tiny_pipeline(folder: Path) -> Any:
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(0)
    letters = string.ascii_lowercase
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    text = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=16,
        bos_token_id=len(words) - 2,
        eos_token_id=len(words) - 1,
        pad_token_id=len(words) - 1,
    )
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=8,
        attention_head_dim=2,
        norm_num_groups=2,
    )
    vae = AutoencoderKL(
        block_out_channels=(4, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=2,
        sample_size=16,
    )
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(text),
        tokenizer=CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16),
        unet=unet,
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def loaded(path: Path, **params: Any) -> DiffusionEdit:
    operator = DiffusionEdit(DiffusionEditParams(**{"steps": 4, "strength_range": (0.5, 1.0)} | params))
    operator.load("cpu", Supply(models={"model": path}))
    return operator


def pixel_model(folder: Path, classes: tuple[str, ...] = CLASSES, channels: int = 1) -> Path:
    return supply_in(folder, classes, channels).models["model"]


class TestDiffusionEditConformance(OperatorConformance):
    operator = DiffusionEdit
    params: ClassVar = {"model": "tiny.safetensors", "steps": 4, "strength_range": [0.3, 0.8], "guidance": 2.0}
    tolerance = 1

    def supply(self, folder: Path) -> Supply:
        return supply_in(folder)


class TestPipelineConformance(OperatorConformance):
    operator = DiffusionEdit
    params: ClassVar = {"model": "safe", "steps": 4, "strength_range": [0.3, 0.8], "guidance": 3.0}
    tolerance = 1
    sizes: ClassVar = ((28, 28), (1, 1), (7, 33))

    @pytest.fixture(autouse=True)
    def _folder(self, pipeline_folder: Path) -> None:
        self.folder = pipeline_folder

    def supply(self, folder: Path) -> Supply:
        return Supply(models={"model": self.folder})


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
        columns = {"class_index": [0] * 8, "strength": [strength] * 8, "prompt": [None] * 8}
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
    operator._editor._net.label.weight[1] = torch.nan
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
    whole = type(operator._editor._pipeline).__call__

    class Counted(type(operator._editor._pipeline)):  # type: ignore[misc]  # the class is the folder's
        def __call__(self, *given: Any, **named: Any) -> Any:
            calls.append(len(named["prompt"]))
            return whole(self, *given, **named)

    operator._editor._pipeline.__class__ = Counted
    images = act(operator, batch, draws).images
    assert images.shape == (6, 16, 16, 3) and images.std() > 1
    assert sorted(calls) == sorted(Counter(draws.columns["strength"]).values())


def test_the_prompt_the_seed_and_the_strength_change_the_image(pipeline_folder: Path) -> None:
    operator = loaded(pipeline_folder, guidance=3.0)
    batch = make_batch([0], (16, 16), 3)
    columns = {"class_index": [-1], "strength": [0.75], "prompt": ["a shirt"]}
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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _tiny_pipeline(tmp_path).save_pretrained(tmp_path / "pickled", safe_serialization=False)
    for path in (tmp_path / "pickled").rglob("*.safetensors"):
        path.rename(path.with_suffix(".bin"))
    with pytest.raises(ModelError, match="not usable") as caught:
        loaded(tmp_path / "pickled")
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match=r"no \.safetensors file in it"):
        folder_sha256(tmp_path / "pickled")


def test_a_folder_is_known_by_what_is_in_it(pipeline_folder: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(pipeline_folder, tmp_path / "copy")
    assert folder_sha256(tmp_path / "copy") == folder_sha256(pipeline_folder)
    (tmp_path / "copy" / "scheduler" / "scheduler_config.json").write_text("{}")
    assert folder_sha256(tmp_path / "copy") != folder_sha256(pipeline_folder)


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
