"""FastStyle: real networks made tiny, in the operator and in a whole run."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from palimpsest.testing.operators import OperatorConformance, act, assert_near, make_batch
from pipeline.contracts import Assets, Draws, ImageBatch, Requirements
from pipeline.errors import JobError, ModelError, RecipeError
from pipeline.model_files.references import ASSETS
from pipeline.networks.style.fast_style_network import save_network, stylise
from pipeline.operators.style.fast_style import FastStyle, FastStyleParams
from pipeline.validation import parse
from tests.fixtures.data_sets import plan_of, rows_of, run_here, write_input, write_recipe
from tests.networks.style.test_fast_style_network import drawn

pytestmark = pytest.mark.usefixtures("one_thread")


def written(folder: Path, suffix: str = ".pth") -> Path:
    path = folder / f"mosaic{suffix}"
    torch.save(drawn().state_dict(), path) if suffix == ".pth" else save_network(path, drawn())
    return path


def loaded(folder: Path, **params: Any) -> FastStyle:
    operator = FastStyle(FastStyleParams(model="mosaic.pth", **params))
    operator.load("cpu", Assets(models={"model": written(folder)}))
    return operator


class TestFastStyleConformance(OperatorConformance):
    operator = FastStyle
    params: ClassVar = {"model": "mosaic.pth", "alpha_range": (0.2, 1.0)}
    tolerance = 1

    def assets(self, folder: Path) -> Assets:
        return Assets(models={"model": written(folder)})


class TestFastStyleEnlargingConformance(OperatorConformance):
    operator = FastStyle
    params: ClassVar = {"model": "mosaic.safetensors", "min_side_px": 40}
    tolerance = 1
    draws_vary = False

    def assets(self, folder: Path) -> Assets:
        return Assets(models={"model": written(folder, ".safetensors")})


# ---- what is made ----------------------------------------------------------------------------------------------------


def test_each_image_is_the_networks_answer_blended_by_its_own_draw(tmp_path: Path) -> None:
    operator = loaded(tmp_path, alpha_range=(0.1, 0.9))
    batch = make_batch(list(range(6)), (22, 25), 3)
    assert batch.images is not None
    draws = operator.draw(batch)
    made = act(operator, batch, draws).images
    for index in range(6):
        picture = torch.from_numpy(batch.images[index]).permute(2, 0, 1)[None] / 255
        wanted = stylise(drawn(), picture, torch.tensor([draws.row(index)["alpha"]]))
        assert_near(made[index], (wanted[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy(), 1)
        assert np.abs(made[index].astype(int) - batch.images[index]).mean() > 3


def test_alpha_0_is_the_source_to_the_byte(tmp_path: Path) -> None:
    operator = loaded(tmp_path, alpha_range=(0.0, 0.0))
    batch = make_batch([0, 1, 2], (17, 30), 3)
    np.testing.assert_array_equal(act(operator, batch).images, batch.images)


def test_shares_are_drawn_evenly(tmp_path: Path) -> None:
    operator = loaded(tmp_path, alpha_range=(0.2, 0.6))
    alphas = np.array(operator.draw(make_batch(list(range(2000)), (1, 1))).columns["alpha"])
    assert alphas.min() >= 0.2 and alphas.max() < 0.6
    assert alphas.mean() == pytest.approx(0.4, abs=0.01) and alphas.std() == pytest.approx(0.4 / 12**0.5, abs=0.01)


def test_grey_becomes_rgb_as_the_same_picture_in_three_channels_does(tmp_path: Path) -> None:
    operator = loaded(tmp_path)
    grey = make_batch([0, 1, 2], (28, 28), 1)
    assert grey.images is not None
    rgb = ImageBatch(images=np.repeat(grey.images, 3, axis=3), seeds=grey.seeds, labels=grey.labels)
    made = act(operator, grey).images
    assert made.shape == (3, 28, 28, 3)
    np.testing.assert_array_equal(made, act(operator, rgb).images)


def test_a_small_image_is_enlarged_before_the_network(tmp_path: Path) -> None:
    batch = make_batch([0, 1], (20, 28), 3)
    plain, large = (act(loaded(tmp_path, min_side_px=smallest), batch).images for smallest in (20, 40))
    assert plain.shape == large.shape and np.abs(plain.astype(int) - large).mean() > 2


def test_extreme_sides_pass(tmp_path: Path) -> None:
    operator = loaded(tmp_path)
    for size in ((1, 700), (700, 1), (3, 200)):
        batch = make_batch([0, 1], size, 3)
        applied = act(operator, batch)
        assert applied.images.shape == (2, *size, 3) and not applied.rejected


def test_an_image_that_is_not_finite_is_rejected_and_the_others_are_not(tmp_path: Path) -> None:
    operator = loaded(tmp_path)
    batch = make_batch([0, 1, 2], (16, 16), 3)
    applied = act(operator, batch, Draws({"alpha": [1.0, float("nan"), 0.5]}))
    assert applied.rejected == {1: "non_finite"}
    assert not applied.images[1].any() and applied.images[0].any() and applied.images[2].any()


def test_a_run_takes_a_pth_and_names_it_in_the_lineage(tmp_path: Path) -> None:
    write_input(tmp_path / "data", shards=1, rows=6)
    written(tmp_path)
    branch = {"name": "mosaic", "operators": [{"fast_style": {"model": "mosaic.pth", "alpha_range": [0.5, 1.0]}}]}
    run_here(plan_of(write_recipe(tmp_path, [branch])))
    rows = rows_of(tmp_path / "out")
    assert len(rows) == 6
    for row in rows:
        (step,) = row["steps"]
        assert step["operator"] == "fast_style" and step["model_id"] == "mosaic.pth" and len(step["model_sha256"]) == 64
        assert re.fullmatch(r'\{"alpha":0\.\d+\}', step["params"])


# ---- what is refused -------------------------------------------------------------------------------------------------


def test_the_model_is_the_embedded_one_or_the_named_one_and_not_none() -> None:
    with pytest.raises(RecipeError, match="model"):
        parse(FastStyleParams, {"model": ""}, "fast_style")
    assert FastStyle(FastStyleParams()).requirements() == Requirements(models={"model": "builtin:fast-style"})
    assert FastStyle(FastStyleParams(model="a.pth")).requirements() == Requirements(models={"model": "a.pth"})


def test_the_embedded_model_changes_the_colours_and_keeps_the_picture() -> None:
    operator = FastStyle(FastStyleParams())
    operator.load("cpu", Assets(models={"model": ASSETS / "models" / "fast-style.safetensors"}))
    batch = make_batch([0], (64, 64), channels=3)
    halves = np.full((1, 64, 64, 3), 40, np.uint8)
    halves[:, :, 32:] = 210
    made = act(operator, replace(batch, images=halves), operator.draw(batch)).images[0].astype(float)
    assert made[..., 2].mean() > made[..., 0].mean() + 20  # the mosaic is blue
    assert abs(made[:, 4:28].mean() - made[:, 36:60].mean()) > 10  # and the edge is still there


@pytest.mark.parametrize("alpha_range", [(-0.1, 0.5), (0.5, 1.1), (0.9, 0.3), (0.2, float("nan"))])
def test_a_share_out_of_range_is_refused(alpha_range: tuple[float, float]) -> None:
    with pytest.raises(RecipeError, match=r"fast_style.alpha_range = .*within \[0, 1\], the smaller one first"):
        parse(FastStyleParams, {"model": "a.pth", "alpha_range": alpha_range}, "fast_style")


@pytest.mark.parametrize("name", ["none.pth", "none.safetensors", "weights.onnx"])
def test_a_plan_without_its_model_is_one_line(tmp_path: Path, name: str) -> None:
    write_input(tmp_path / "data", shards=1, rows=4)
    (tmp_path / "weights.onnx").write_bytes(b"x")
    branch = {"name": "mosaic", "operators": [{"fast_style": {"model": name}}]}
    with pytest.raises(ModelError, match=name) as caught:
        plan_of(write_recipe(tmp_path, [branch]))
    assert "\n" not in str(caught.value)


def test_weights_of_something_else_are_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(ModelError, match="no fast style network"):
        FastStyle(FastStyleParams(model="x")).load("cpu", Assets(models={"model": tmp_path / "other.pth"}))


def test_a_chain_without_images_is_told(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="fast_style: there are no images to stylise"):
        act(loaded(tmp_path), make_batch([0], None), Draws({"alpha": [1.0]}))
