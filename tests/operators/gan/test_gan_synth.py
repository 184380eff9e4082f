"""GanSynth: a real generator made tiny."""

from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from palimpsest.testing.operators import CLASSES, OperatorConformance, act, assert_near, make_batch
from pipeline.contracts import Assets, Draws, ImageBatch
from pipeline.errors import ModelError, RecipeError
from pipeline.networks.generators.flow_matching import save_flow
from pipeline.networks.generators.unet import UNet, UNetShape
from pipeline.networks.generators.wgan import Generator, GeneratorShape, load_generator, save_generator
from pipeline.noise import Noise
from pipeline.operators.gan.gan_synth import GanSynth, GanSynthParams
from pipeline.validation import parse

pytestmark = pytest.mark.usefixtures("one_thread")


def assets_in(folder: Path, classes: tuple[str, ...] = CLASSES) -> Assets:
    """A generator of 8 px whose norms know some statistics."""
    torch.manual_seed(3)
    net = Generator(GeneratorShape(8, 1, len(classes), latent=4, widths=(4, 4, 2)))
    for _ in range(20):
        net(torch.randn(16, 4), torch.randint(0, len(classes), (16,)))
    save_generator(folder / "tiny.safetensors", net, classes)
    return Assets(models={"model": folder / "tiny.safetensors"})


def loaded(folder: Path, classes: tuple[str, ...] = CLASSES, **params: Any) -> GanSynth:
    operator = GanSynth(GanSynthParams(**params))
    operator.load("cpu", assets_in(folder, classes))
    return operator


class TestGanSynthConformance(OperatorConformance):
    operator = GanSynth
    params: ClassVar = {"model": "tiny.safetensors", "truncation": 0.8}
    tolerance = 1
    draws_vary = False  # the class comes with the sample

    def assets(self, folder: Path) -> Assets:
        return assets_in(folder)


def test_an_image_is_the_generators_from_its_own_scaled_latent(tmp_path: Path) -> None:
    operator = loaded(tmp_path, truncation=0.5)
    batch = make_batch(list(range(5)), None)
    images = act(operator, batch).images
    assert images.shape == (5, 8, 8, 1) and images.std() > 1
    net, _ = load_generator(tmp_path / "tiny.safetensors")
    for index in range(5):
        with torch.inference_mode():
            made = net(Noise([batch.seeds[index]]).normal(4) * 0.5, torch.tensor([index % 3]))
        wanted = ((made + 1) * 127.5).round().to(torch.uint8).numpy().transpose(0, 2, 3, 1)
        assert_near(images[index], wanted[0], 1)


def test_less_truncation_is_less_variety(tmp_path: Path) -> None:
    labels = np.zeros(64, np.int64)
    batch = ImageBatch(None, list(range(64)), labels, CLASSES)
    spread = [act(loaded(tmp_path, truncation=t), batch).images.std(axis=0).mean() for t in (1.0, 0.5, 0.01)]
    assert spread[0] > spread[1] > spread[2]


def test_a_sample_without_label_draws_its_class_evenly(tmp_path: Path) -> None:
    operator = loaded(tmp_path)
    seeds = make_batch(list(range(3000)), None).seeds
    batch = ImageBatch(None, seeds, np.full(3000, -1), CLASSES)
    counts = Counter(operator.draw(batch).columns["class_index"])
    assert sum((counts[index] - 1000) ** 2 / 1000 for index in range(3)) < 13.8  # 2 degrees, p = 0.001
    assert not act(operator, ImageBatch(None, seeds[:4], np.full(4, -1), CLASSES)).errors


def test_classes_go_by_name_and_a_stranger_is_an_error(tmp_path: Path) -> None:
    operator = loaded(tmp_path, ("BAG", "Shirt"))
    batch = ImageBatch(None, [1, 2, 3], np.array([0, 1, 2]), CLASSES)
    draws = operator.draw(batch)
    assert draws.columns["class_index"] == [1, -1, 0]
    assert {row: error.code for row, error in act(operator, batch, draws).errors.items()} == {1: "unknown_class"}


def test_what_is_not_finite_or_black_is_rejected(tmp_path: Path) -> None:
    operator = loaded(tmp_path)
    batch = make_batch([0, 1, 2], None)
    operator._net.label.weight[1] = torch.nan
    applied = act(operator, batch)
    assert applied.rejected == {1: "non_finite"} and not applied.images[1].any()
    operator._net.label.weight[1] = 0
    operator._net.leave.bias.fill_(-100.0)
    assert act(operator, batch).rejected == dict.fromkeys(range(3), "black")


def test_draws_decide_and_not_the_batch(tmp_path: Path) -> None:
    operator = loaded(tmp_path)
    batch = make_batch([0], None)
    one, other = (act(operator, batch, Draws({"class_index": [0], "truncation": [t]})).images for t in (1.0, 0.1))
    assert (one != other).any()


@pytest.mark.parametrize("truncation", [0, -1, 1.5, float("nan")])
def test_truncation_out_of_range_is_refused(truncation: float) -> None:
    with pytest.raises(RecipeError, match=r"gan_synth\.truncation"):
        parse(GanSynthParams, {"truncation": truncation}, "gan_synth")


def test_a_model_of_another_kind_is_refused(tmp_path: Path) -> None:
    save_flow(tmp_path / "flow.safetensors", UNet(UNetShape(size_px=8, widths=(8,), embedding=8)))
    with pytest.raises(ModelError, match="holds flow-unet/1; needed: wgan-generator/1"):
        GanSynth(GanSynthParams()).load("cpu", Assets(models={"model": tmp_path / "flow.safetensors"}))


@pytest.mark.parametrize(
    ("known", "names", "labels"),
    [
        (CLASSES, CLASSES, [0, 1, 2]),
        (tuple(reversed(CLASSES)), CLASSES, [2, 1, 0]),  # by name
        ((CLASSES[1], "stranger", CLASSES[0]), CLASSES, [1, -1, 0]),
        (CLASSES, (), [0, 1, 2]),
        (CLASSES, ("sock", CLASSES[2]), [-1, -1, 1]),
    ],
)
def test_an_image_of_a_drawn_class_gets_its_label(
    tmp_path: Path, known: tuple[str, ...], names: tuple[str, ...], labels: list[int]
) -> None:
    operator = loaded(tmp_path, known)
    batch = ImageBatch(None, [1, 2, 3], np.full(3, -1), names)
    found = act(operator, batch, Draws({"class_index": [0, 1, 2], "truncation": [1.0] * 3})).labels
    assert found is not None and found.dtype == np.int64
    assert found.tolist() == labels


def test_an_image_of_an_asked_class_keeps_its_label(tmp_path: Path) -> None:
    batch = ImageBatch(None, [1, 2, 3], np.array([2, 0, 1]), CLASSES)
    found = act(loaded(tmp_path, tuple(reversed(CLASSES))), batch).labels
    assert found is not None and found.tolist() == [2, 0, 1]
