"""DiffusionGenerate: a real network made tiny."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from pipeline.contracts import Draws, ImageBatch, Supply
from pipeline.errors import ModelError, RecipeError
from pipeline.models import samplers
from pipeline.models.diffusion import load_flow, save_flow
from pipeline.models.unet import UNet, UNetShape
from pipeline.noise import Noise
from pipeline.operators.diffusion_generate import DiffusionGenerate, DiffusionGenerateParams
from pipeline.validation import parse
from tests.operators.conformance import CLASSES, OperatorConformance, act, assert_near, make_batch

pytestmark = pytest.mark.usefixtures("one_thread")


def supply_in(folder: Path, classes: tuple[str, ...] = CLASSES, channels: int = 1) -> Supply:
    """A network of 8 px none of whose layers is silent."""
    torch.manual_seed(3)
    shape = UNetShape(8, channels, max(len(classes), 1), widths=(4, 8), groups=2, heads=2, embedding=8)
    net = UNet(shape).requires_grad_(False)
    for parameter in net.parameters():
        if parameter.dim() > 1 and not parameter.any():
            parameter.normal_(std=0.3)
    save_flow(folder / "tiny.safetensors", net, classes)
    return Supply(models={"model": folder / "tiny.safetensors"})


def loaded(folder: Path, classes: tuple[str, ...] = CLASSES, **params: Any) -> DiffusionGenerate:
    operator = DiffusionGenerate(DiffusionGenerateParams(steps=params.pop("steps", 3), **params))
    operator.load("cpu", supply_in(folder, classes))
    return operator


class TestDiffusionGenerateConformance(OperatorConformance):
    operator = DiffusionGenerate
    params: ClassVar = {"model": "tiny.safetensors", "steps": 3, "guidance_range": [1.0, 3.0]}
    tolerance = 1

    def supply(self, folder: Path) -> Supply:
        return supply_in(folder)


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
    weights = operator._net.label.weight
    weights[1] = torch.nan
    applied = act(operator, batch)
    assert applied.rejected == {1: "non_finite"} and not applied.images[1].any() and applied.images[0].any()
    weights[1] = 0
    operator._net.leave.weight.zero_()
    operator._net.leave.bias.fill_(100.0)  # a velocity that leads far below black
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
    from pipeline.models.wgan import Generator, GeneratorShape, save_generator

    save_generator(tmp_path / "gan.safetensors", Generator(GeneratorShape(size_px=8, widths=(2, 2, 2))))
    operator = DiffusionGenerate(DiffusionGenerateParams())
    with pytest.raises(ModelError, match="holds wgan-generator/1; needed: flow-unet/1"):
        operator.load("cpu", Supply(models={"model": tmp_path / "gan.safetensors"}))
