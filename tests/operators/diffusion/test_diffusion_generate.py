"""DiffusionGenerate: a real network made tiny."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from palimpsest.testing.operators import CLASSES, OperatorConformance, act, assert_near, make_batch
from pipeline.contracts import Assets, Draws, ImageBatch
from pipeline.errors import InputError, ModelError, RecipeError
from pipeline.networks.generators import samplers
from pipeline.networks.generators.flow_matching import load_flow, save_flow
from pipeline.networks.generators.unet import UNet, UNetShape
from pipeline.noise import Noise
from pipeline.operators.diffusion.diffusion_generate import DiffusionGenerate, DiffusionGenerateParams
from pipeline.validation import parse
from tests.fixtures.tiny_models import OWN_WARNING, save_pixel_unet

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings(OWN_WARNING)]


def assets_in(folder: Path, classes: tuple[str, ...] = CLASSES, channels: int = 1) -> Assets:
    """A network of 8 px none of whose layers is silent."""
    torch.manual_seed(3)
    shape = UNetShape(8, channels, max(len(classes), 1), widths=(4, 8), groups=2, heads=2, embedding=8)
    net = UNet(shape).requires_grad_(False)
    for parameter in net.parameters():
        if parameter.dim() > 1 and not parameter.any():
            parameter.normal_(std=0.3)
    save_flow(folder / "tiny.safetensors", net, classes)
    return Assets(models={"model": folder / "tiny.safetensors"})


def loaded(folder: Path, classes: tuple[str, ...] = CLASSES, **params: Any) -> DiffusionGenerate:
    operator = DiffusionGenerate(DiffusionGenerateParams(steps=params.pop("steps", 3), **params))
    operator.load("cpu", assets_in(folder, classes))
    return operator


class TestDiffusionGenerateConformance(OperatorConformance):
    operator = DiffusionGenerate
    params: ClassVar = {"model": "tiny.safetensors", "steps": 3, "guidance_range": [1.0, 3.0]}
    tolerance = 1

    def assets(self, folder: Path) -> Assets:
        return assets_in(folder)


def test_an_image_is_the_samplers_from_its_own_noise_class_and_guidance(tmp_path: Path) -> None:
    operator = loaded(tmp_path, guidance_range=(1.0, 4.0))
    batch = make_batch(list(range(5)), None)
    draws = operator.draw(batch)
    images = act(operator, batch, draws).images
    assert images.shape == (5, 8, 8, 1) and images.std() > 10
    net, _ = load_flow(tmp_path / "tiny.safetensors")
    for index in range(5):
        noise = Noise([batch.seeds[index]]).normal(1, 8, 8)
        label = torch.tensor([index % 3])
        with torch.inference_mode():
            made = samplers.sample(net, noise, label, 3, float(draws.columns["guidance"][index]))
        wanted = ((made.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy().transpose(0, 2, 3, 1)
        assert_near(images[index], wanted[0], 1)


def test_guidance_is_drawn_evenly_and_one_value_is_no_draw(tmp_path: Path) -> None:
    values = np.array(
        loaded(tmp_path, guidance_range=(1, 3)).draw(make_batch(list(range(2000)), None)).columns["guidance"]
    )
    assert values.min() >= 1 and values.max() < 3 and values.mean() == pytest.approx(2, abs=0.05)
    assert loaded(tmp_path).draw(make_batch([0, 1], None)).columns["guidance"] == [1.0, 1.0]


def test_classes_go_by_name_no_label_is_no_class_and_a_stranger_is_an_error(tmp_path: Path) -> None:
    operator = loaded(tmp_path, ("BAG", "Shirt"))
    batch = ImageBatch(None, [1, 2, 3, 4], np.array([0, 1, 2, -1]), CLASSES)
    draws = operator.draw(batch)
    assert draws.columns["class_index"] == [1, -1, 0, -1]
    applied = act(operator, batch, draws)
    assert {row: error.code for row, error in applied.errors.items()} == {1: "unknown_class"}
    assert "'shoe'; it has: BAG, Shirt" in str(applied.errors[1])
    beyond = ImageBatch(None, [1], np.array([2]), ())
    assert act(operator, beyond).errors[0].code == "unknown_class"


def test_what_is_not_finite_or_black_is_rejected(tmp_path: Path) -> None:
    operator = loaded(tmp_path)
    batch = make_batch([0, 1, 2], None)
    weights = operator._backend.net.label.weight
    weights[1] = torch.nan
    applied = act(operator, batch)
    assert applied.rejected == {1: "non_finite"} and not applied.images[1].any() and applied.images[0].any()
    weights[1] = 0
    operator._backend.net.leave.weight.zero_()
    operator._backend.net.leave.bias.fill_(100.0)  # a velocity that leads far below black
    assert act(operator, batch).rejected == dict.fromkeys(range(3), "black")


def test_draws_decide_and_not_the_batch(tmp_path: Path) -> None:
    operator = loaded(tmp_path)
    batch = make_batch([0], None)
    one, other = (act(operator, batch, Draws({"class_index": [index], "guidance": [1.0]})).images for index in (0, 1))
    assert (one != other).any()


@pytest.mark.parametrize("guidance_range", [(-1, 1), (3, 1), (1, 30), (float("nan"), 1)])
def test_guidance_out_of_range_is_refused(guidance_range: tuple[float, float]) -> None:
    with pytest.raises(RecipeError, match=r"guidance_range = .*within \[0, 20\], the smaller one first"):
        parse(DiffusionGenerateParams, {"guidance_range": guidance_range}, "diffusion_generate")


def test_a_model_of_another_kind_is_refused(tmp_path: Path) -> None:
    from pipeline.networks.generators.wgan import Generator, GeneratorShape, save_generator

    save_generator(tmp_path / "gan.safetensors", Generator(GeneratorShape(size_px=8, widths=(2, 2, 2))))
    operator = DiffusionGenerate(DiffusionGenerateParams())
    with pytest.raises(ModelError, match="holds wgan-generator/1; needed: flow-unet/1"):
        operator.load("cpu", Assets(models={"model": tmp_path / "gan.safetensors"}))


# ---- models in folders -----------------------------------------------------------------------------------------------


def opened(path: Path, **params: Any) -> DiffusionGenerate:
    operator = DiffusionGenerate(DiffusionGenerateParams(**{"steps": 4} | params))
    operator.load("cpu", Assets(models={"model": path}))
    return operator


class TestPixelUNetConformance(OperatorConformance):
    operator = DiffusionGenerate
    params: ClassVar = {"model": "pixel", "steps": 3, "guidance_range": [1.0, 3.0]}
    tolerance = 1

    @pytest.fixture(autouse=True)
    def _folder(self, tiny: Callable[[str], Path]) -> None:
        self.folder = tiny("pixel")

    def assets(self, folder: Path) -> Assets:
        return Assets(models={"model": self.folder})


@pytest.mark.parametrize("kind", ["stable", "large", "third", "consistency", "dit", "pixel"])
def test_an_image_alone_is_the_one_in_a_batch_and_the_draws_decide(kind: str, tiny: Callable[[str], Path]) -> None:
    operator = opened(tiny(kind), guidance_range=(1.0, 3.0), prompt="a {label}")
    batch = make_batch(list(range(8)), None)
    draws = operator.draw(batch)
    applied = act(operator, batch, draws)
    assert applied.images.std() > 1 and not applied.errors and not applied.rejected
    for index in (0, 5):
        assert_near(act(operator, make_batch([index], None)).images[0], applied.images[index], 1)
    one = make_batch([0], None)
    row = {name: values[:1] for name, values in draws.columns.items()} | {"guidance": [3.0]}
    plain = act(operator, one, Draws(row)).images
    text = operator._backend.takes_text
    changes = {"guidance": [1.5], **({"prompt": ["a bag"]} if text else {"class_index": [1]})}
    for name, value in changes.items():
        assert (act(operator, one, Draws(row | {name: value})).images != plain).any(), name
    assert (act(operator, ImageBatch(None, [5], one.labels, CLASSES), Draws(row)).images != plain).any()
    assert operator.once_per_call == (("guidance",) if text else ())


def test_a_dit_is_its_own_pipelines_image(tiny: Callable[[str], Path]) -> None:
    from diffusers import DiTPipeline

    batch = make_batch(list(range(3)), None)
    images = act(opened(tiny("dit"), steps=5), batch).images
    pipeline = DiTPipeline.from_pretrained(tiny("dit"), low_cpu_mem_usage=False)
    pipeline.set_progress_bar_config(disable=True)
    seeds = [torch.Generator().manual_seed(seed) for seed in batch.seeds]
    (made,) = pipeline([0, 1, 2], 1.0, generator=seeds, num_inference_steps=5, output_type="pt", return_dict=False)
    assert_near(images, (made * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy(), 1)


def test_classes_of_folders_go_by_any_of_their_names(tiny: Callable[[str], Path]) -> None:
    batch = ImageBatch(None, [1, 2, 3], np.array([0, 1, 2]), ("Blouse", "bag", "coat"))
    for kind, wanted in (("dit", [0, 2, -1]), ("pixel", [-1, 2, -1])):
        operator = opened(tiny(kind))
        draws = operator.draw(batch)
        assert draws.columns["class_index"] == wanted
        assert set(act(operator, batch, draws).errors) == {row for row, index in enumerate(wanted) if index < 0}


def test_a_unet_without_names_goes_by_index_and_knows_no_class_of_none(tmp_path: Path) -> None:
    save_pixel_unet(tmp_path, 3, named=False)
    operator = opened(tmp_path)
    batch = ImageBatch(None, [1, 2, 3], np.array([2, -1, 3]), ())
    assert operator.draw(batch).columns["class_index"] == [2, -1, -1]
    errors = act(operator, batch).errors
    assert sorted(errors) == [1, 2] and "no label" in str(errors[1])
    with pytest.raises(ModelError, match="has no class of none, which guidance needs"):
        opened(tmp_path, guidance=2.0)


def test_a_unet_without_classes_makes_images_of_any_only_if_asked(tmp_path: Path) -> None:
    save_pixel_unet(tmp_path, None, named=False)
    with pytest.raises(ModelError, match="it knows no classes; write `condition: none`"):
        opened(tmp_path)
    operator = opened(tmp_path, condition="none")
    assert act(operator, make_batch([0, 1], None)).images.shape == (2, 8, 8, 1)


def test_a_branch_without_sources_has_no_columns_for_a_prompt(tiny: Callable[[str], Path]) -> None:
    operator = opened(tiny("stable"), prompt="{caption}")
    with pytest.raises(InputError, match="this branch has no source rows"):
        operator.draw(make_batch([0], None))


@pytest.mark.parametrize("other", [{"steps": 5}, {"steps": 2, "method": "heun"}])
def test_a_distilled_model_takes_the_steps_it_was_distilled_for(tmp_path: Path, other: dict[str, Any]) -> None:
    assets = assets_in(tmp_path)
    path = assets.models["model"]
    net, classes = load_flow(path)
    save_flow(path, net, classes, steps=2)
    operator = DiffusionGenerate(DiffusionGenerateParams(steps=2))
    operator.load("cpu", assets)
    assert act(operator, make_batch([0, 1], None), operator.draw(make_batch([0, 1], None))).images.shape == (2, 8, 8, 1)
    with pytest.raises(ModelError, match="distilled for 2 steps; write `steps: 2, method: euler`"):
        DiffusionGenerate(DiffusionGenerateParams(**other)).load("cpu", assets)
