"""NeuralStyle: a real VGG19 made narrow, with drawn weights; a few steps, in the operator and in a whole run."""

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from palimpsest.testing.operators import OperatorConformance, act, make_batch
from pipeline.contracts import Assets, Draws, ImageBatch, Pixels, ReferenceImage, Requirements
from pipeline.errors import InputError, JobError, ModelError, RecipeError
from pipeline.networks.pixel_tensors import rgb_unit_tensor, with_short_side
from pipeline.networks.style.gatys import CONTENT_LAYER, STYLE_LAYERS, Objective, Targets
from pipeline.networks.style.vgg import load_vgg
from pipeline.operators.style.neural_style import NeuralStyle, NeuralStyleParams
from pipeline.validation import parse
from tests.fixtures.data_sets import plan_of, rows_of, run_here, write_input, write_recipe
from tests.fixtures.reference_images import encoded, style
from tests.fixtures.vgg_files import WIDTHS, write_vgg

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = {"model": "vgg.pth", "style_size_px": 32, "min_side_px": 16, "steps": 4}


def assets_in(folder: Path, *styles: ReferenceImage) -> Assets:
    return Assets(models={"model": write_vgg(folder / "vgg.pth")}, images={"styles": styles})


def loaded(folder: Path, *styles: ReferenceImage, **params: Any) -> NeuralStyle:
    operator = NeuralStyle(NeuralStyleParams(**TINY | params))
    operator.load("cpu", assets_in(folder, *styles))
    return operator


class TestNeuralStyleConformance(OperatorConformance):
    operator = NeuralStyle
    params: ClassVar = TINY | {"style_weight_range": (1e3, 1e5), "steps": 2}

    def assets(self, folder: Path) -> Assets:
        return assets_in(folder, style(1), style(2, (24, 90)), style(3, channels=1))


class TestNeuralStyleFromNoiseByAdamConformance(OperatorConformance):
    operator = NeuralStyle
    params: ClassVar = TINY | {
        "steps": 2,
        "start": "noise",
        "optimizer": "adam",
        "style_layers": 5,
        "pooling": "average",
    }
    sizes = ((28, 28), (1, 1), (7, 33))

    def assets(self, folder: Path) -> Assets:
        return assets_in(folder, style(1), style(2))


# ---- what is made ----------------------------------------------------------------------------------------------------


def loss_of(folder: Path, picture: Pixels, content: Pixels, painting: Pixels, style_weight: float) -> float:
    """The loss of equation 7 of a picture, from the files alone. All [H, W, 3] uint8."""
    objective = Objective(load_vgg(folder / "vgg.pth", [*STYLE_LAYERS, CONTENT_LAYER]), STYLE_LAYERS[:4])
    made, wanted, styled = (rgb_unit_tensor(image[None]) for image in (picture, content, painting))
    targets = Targets(objective.content_target(wanted), objective.style_targets(with_short_side(styled, 32)))
    return objective.losses(made, targets, torch.tensor([style_weight])).item()


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
@pytest.mark.parametrize("start", ["content", "noise"])
def test_the_loss_of_every_image_falls(tmp_path: Path, optimizer: str, start: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    if start == "noise":  # what the start is not like
        pixels = np.repeat(np.repeat(pixels[::8, ::8], 8, axis=0), 8, axis=1)
    data = encoded(pixels)
    painting = ReferenceImage("/p.png", hashlib.sha256(data).hexdigest(), data)
    operator = loaded(tmp_path, painting, optimizer=optimizer, start=start, steps=60, learning_rate=0.03)
    smooth = np.stack([np.full((24, 24, 3), level, np.uint8) for level in (60, 128, 200)])
    batch = make_batch([0, 1, 2], (24, 24), 3)
    made = act(operator, ImageBatch(smooth, batch.seeds, batch.labels)).images
    for image, content in zip(made, smooth, strict=True):
        begun = content if start == "content" else np.random.default_rng(1).integers(0, 256, content.shape, np.uint8)
        before, after = (loss_of(tmp_path, picture, content, pixels, 1e6) for picture in (begun, image))
        assert after < 0.35 * before


def test_a_heavier_style_takes_an_image_further_from_its_content(tmp_path: Path) -> None:
    operator = loaded(tmp_path, style(1), steps=30)
    batch = make_batch([0], (32, 32), 3)
    assert batch.images is not None
    moved = []
    for style_weight in (1e-6, 1e2, 1e7):
        row = {"style": [style(1).sha256[:16]], "style_name": [""], "style_weight": [style_weight], "steps": [30]}
        made = act(operator, batch, Draws(row)).images
        moved.append(np.abs(made.astype(int) - batch.images).mean())
    assert moved[0] < 0.5 and moved[0] < moved[1] < moved[2]


def test_styles_differ_and_noise_makes_other_pictures_of_other_seeds(tmp_path: Path) -> None:
    operator = loaded(tmp_path, style(1), style(2), start="noise", steps=10)
    one = make_batch([0, 0], (32, 32), 3)
    keys = [style(index).sha256[:16] for index in (1, 2)]
    weight = {"style_name": ["", ""], "style_weight": [1e6, 1e6], "steps": [10, 10]}
    first, second = act(operator, one, Draws({"style": keys} | weight)).images
    assert np.abs(first.astype(int) - second).mean() > 5
    other = ImageBatch(one.images, make_batch([0, 1], None).seeds, one.labels)
    third, fourth = act(operator, other, Draws({"style": [keys[0]] * 2} | weight)).images
    np.testing.assert_array_equal(third, first)
    assert np.abs(third.astype(int) - fourth).mean() > 5


def test_styles_and_weights_are_drawn_evenly_and_named(tmp_path: Path) -> None:
    operator = loaded(tmp_path, *(style(index) for index in range(4)), style_weight_range=(1e2, 1e6))
    draws = operator.draw(make_batch(list(range(2000)), (1, 1)))
    powers = np.log10(draws.columns["style_weight"])
    assert powers.min() >= 2 and powers.max() <= 6 and powers.mean() == pytest.approx(4, abs=0.1)
    counts = Counter(draws.columns["style_name"])
    assert sum((counts[f"style-{index}.png"] - 500) ** 2 / 500 for index in range(4)) < 16.3  # 3 degrees, p = 0.001
    assert draws.partners is not None
    for key, (partner,) in zip(draws.columns["style"], draws.partners, strict=True):
        assert partner.role == "style" and partner.sha256.startswith(key)


def test_one_weight_is_drawn_as_it_is(tmp_path: Path) -> None:
    draws = loaded(tmp_path, style(1), style_weight_range=(1e6, 1e6)).draw(make_batch(list(range(50))))
    assert draws.columns["style_weight"] == pytest.approx([1e6] * 50, rel=1e-12)


def test_styles_are_described_once_at_load(tmp_path: Path) -> None:
    operator = loaded(tmp_path, style(1), style(2), style_layers=5)
    assert [tuple(gram.shape) for gram in operator._grams] == [(2, width, width) for width in WIDTHS]


def test_extreme_sides_pass(tmp_path: Path) -> None:
    operator = loaded(tmp_path, style(1), steps=2)
    for size in ((1, 300), (300, 1)):
        applied = act(operator, make_batch([0, 1], size, 3))
        assert applied.images.shape == (2, *size, 3) and not applied.rejected


def test_a_constant_style_is_a_style(tmp_path: Path) -> None:
    data = encoded(np.full((40, 40, 3), 200, np.uint8))
    operator = loaded(tmp_path, ReferenceImage("/flat.png", hashlib.sha256(data).hexdigest(), data))
    assert not act(operator, make_batch([0, 1], (28, 28), 3)).rejected


def test_an_image_that_is_not_finite_is_rejected_and_the_others_are_as_they_were(tmp_path: Path) -> None:
    operator = loaded(tmp_path, style(1), style(2))
    batch = make_batch(list(range(8)), (16, 16), 3)
    draws = operator.draw(batch)
    before = act(operator, batch, draws).images
    operator._grams[1][0] = torch.nan
    applied = act(operator, batch, draws)
    spoilt = {index for index, name in enumerate(draws.columns["style_name"]) if name == "style-1.png"}
    assert 0 < len(spoilt) < 8 and applied.rejected == dict.fromkeys(spoilt, "non_finite")
    assert not applied.images[sorted(spoilt)].any()
    kept = sorted(set(range(8)) - spoilt)
    np.testing.assert_array_equal(applied.images[kept], before[kept])


@pytest.mark.parametrize(
    ("size", "seconds", "steps"),
    [
        ((500, 500), None, 40),  # 0.25 megapixels at 10 s a step: 2.5 s
        ((500, 500), 1000.0, 40),
        ((500, 500), 25.5, 10),
        ((1000, 1000), 25.5, 2),
        ((125, 125), 5.5, 35),
        ((125, 125), 0.1, 0),
        ((32, 32), 0.5, 12),  # enlarged to 64: 0.041 s
        ((1, 1000), 5.0, 7),  # enlarged to 4 x 4,000, and filled up to the 16 that the network needs
    ],
)
def test_the_budget_is_by_the_stated_cost_of_a_step(
    tmp_path: Path, size: tuple[int, int], seconds: float | None, steps: int
) -> None:
    operator = loaded(tmp_path, style(1), steps=40, seconds=seconds, min_side_px=64)
    assert operator.draw(make_batch([0, 1], size)).columns["steps"] == [steps, steps]


def test_a_budget_makes_what_as_many_steps_make(tmp_path: Path) -> None:
    batch = make_batch([0, 1], (64, 64), 3)
    budget = act(loaded(tmp_path, style(1), steps=40, seconds=0.13), batch)  # 3.2 steps
    np.testing.assert_array_equal(budget.images, act(loaded(tmp_path, style(1), steps=3), batch).images)
    assert not budget.rejected


def test_an_image_that_no_step_is_paid_for_is_rejected_as_it_came(tmp_path: Path) -> None:
    batch = make_batch([0, 1], (64, 64), 1)
    applied = act(loaded(tmp_path, style(1), seconds=0.01), batch)
    assert applied.rejected == {0: "over_budget", 1: "over_budget"} and batch.images is not None
    np.testing.assert_array_equal(applied.images, np.repeat(batch.images, 3, axis=3))


def test_a_run_in_units_of_other_sizes_makes_the_same_bytes(tmp_path: Path) -> None:
    write_input(tmp_path / "data", shards=1, rows=5)
    write_vgg(tmp_path / "vgg.pth")
    (tmp_path / "paintings").mkdir()
    for index in (1, 2):
        (tmp_path / "paintings" / f"{index}.png").write_bytes(style(index).data)
    branch = {"name": "painted", "operators": [{"neural_style": TINY | {"styles": "paintings", "steps": 2}}]}
    made = []
    for micro_batch in (1, 8):
        out = f"out-{micro_batch}"
        path = write_recipe(tmp_path, [branch], output={"uri": out}, numerics={"micro_batch": micro_batch})
        run_here(plan_of(path))
        made.append({row["source_row"]: row for row in rows_of(tmp_path / out)})
    assert len(made[0]) == 5
    for row, first in made[0].items():
        assert first["image"] == made[1][row]["image"]
        (step,), (partner,) = first["steps"], first["partners"]
        assert json.loads(step["params"])["style"] == partner["sha256"][:16]
        assert step["model_id"] == "vgg.pth" and partner["role"] == "style"


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "model"),
        ({"model": "v.pth", "style_weight_range": (1e3, 1e2)}, "two weights above 0, the smaller one first"),
        ({"model": "v.pth", "style_weight_range": (0, 1)}, "two weights above 0"),
        ({"model": "v.pth", "style_weight_range": (1, float("inf"))}, "two weights above 0"),
        ({"model": "v.pth", "style_weight_range": (float("nan"), 1)}, "two weights above 0"),
        ({"model": "v.pth", "steps": 0}, "steps"),
        ({"model": "v.pth", "optimizer": "sgd"}, "optimizer"),
        ({"model": "v.pth", "style_layers": 3}, "style_layers"),
        ({"model": "v.pth", "seconds": 0}, "seconds"),
        ({"model": "v.pth", "seconds": float("inf")}, "seconds"),
    ],
)
def test_parameters_out_of_range_are_one_line(params: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        parse(NeuralStyleParams, params, "neural_style")
    assert "\n" not in str(caught.value)


def test_needs_are_the_network_and_the_styles() -> None:
    operator = NeuralStyle(NeuralStyleParams(model="vgg19.pth", styles="paintings/"))
    assert operator.requirements() == Requirements(models={"model": "vgg19.pth"}, images={"styles": "paintings/"})


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (ReferenceImage("/notes.png", "ab" * 32, b"hello"), "neural_style.styles: /notes.png: not usable as a style"),
        (style(1, (400, 4)), "400 x 4 px is too narrow"),
        (None, "neural_style.styles = 'builtin:styles': there is no image in it"),
    ],
)
def test_styles_that_are_none_are_errors_of_the_job(
    tmp_path: Path, reference: ReferenceImage | None, message: str
) -> None:
    with pytest.raises(JobError, match=message):
        loaded(tmp_path, *([reference] if reference else []))


def test_an_empty_style_folder_and_a_missing_model_stop_the_plan(tmp_path: Path) -> None:
    write_input(tmp_path / "data", shards=1, rows=4)
    (tmp_path / "empty").mkdir()
    write_vgg(tmp_path / "vgg.pth")
    for params, kind, message in (
        ({"styles": "empty"}, InputError, "'empty': no image file there"),
        ({"model": "none.pth"}, ModelError, "none.pth"),
    ):
        branch = {"name": "painted", "operators": [{"neural_style": TINY | params}]}
        with pytest.raises(kind, match=message) as caught:
            plan_of(write_recipe(tmp_path, [branch]))
        assert "\n" not in str(caught.value)


def test_another_network_is_refused(tmp_path: Path) -> None:
    operator = NeuralStyle(NeuralStyleParams(**TINY))
    assets = Assets({"model": write_vgg(tmp_path / "vgg16.pth", "vgg16")}, {"styles": [style(1)]})
    with pytest.raises(ModelError, match="holds vgg16; needed: vgg19"):
        operator.load("cpu", assets)


def test_a_style_of_the_lineage_that_is_gone_is_named(tmp_path: Path) -> None:
    row = {"style": ["feed" * 4], "style_name": ["gone.png"], "style_weight": [1.0], "steps": [1]}
    with pytest.raises(JobError, match="style feedfeedfeedfeed of the lineage is not in it"):
        act(loaded(tmp_path, style(1)), make_batch([0], channels=3), Draws(row))


def test_draw_before_load_says_so() -> None:
    with pytest.raises(RuntimeError, match="load comes before draw"):
        NeuralStyle(NeuralStyleParams(**TINY)).draw(make_batch([0]))
