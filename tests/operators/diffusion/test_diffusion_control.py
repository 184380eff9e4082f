"""DiffusionControl: a real ControlNet and pipeline made tiny."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from palimpsest.testing.operators import CLASSES, OperatorConformance, act, make_batch
from pipeline.contracts import Assets, Draws, ImageBatch
from pipeline.errors import ModelError, RecipeError
from pipeline.operators.diffusion.diffusion_control import DiffusionControl, DiffusionControlParams
from pipeline.validation import parse
from tests.fixtures.tiny_models import OWN_WARNING

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings(OWN_WARNING)]


class TestDiffusionControlConformance(OperatorConformance):
    operator = DiffusionControl
    params: ClassVar = {
        "model": "stable",
        "controlnet": "control",
        "steps": 3,
        "strength_range": [0.5, 1.0],
        "prompt": "a {label}",
    }
    tolerance = 1
    sizes: ClassVar = ((28, 28), (7, 33))

    @pytest.fixture(autouse=True)
    def _folders(self, tiny: Callable[[str], Path]) -> None:
        self.folders = {"model": tiny("stable"), "controlnet": tiny("control")}

    def assets(self, folder: Path) -> Assets:
        return Assets(models=self.folders)


def loaded(tiny: Callable[[str], Path], model: str = "stable", **params: Any) -> DiffusionControl:
    given = {"model": model, "controlnet": "control", "steps": 3} | params
    operator = DiffusionControl(DiffusionControlParams(**given))
    operator.load("cpu", Assets(models={"model": tiny(model), "controlnet": tiny("control")}))
    return operator


def ramp(edged: bool) -> np.ndarray:
    """A flat 16 px image, with a bright box in it or without."""
    image = np.full((1, 16, 16, 3), 90, np.uint8)
    if edged:
        image[:, 5:11, 5:11] = 250
    return image


def test_edges_reach_the_image_and_the_scale_says_how_much(tiny: Callable[[str], Path]) -> None:
    """At whole strength almost nothing but the edges comes from the source."""
    made = {}
    for scale in (0.0, 1.0):
        operator = loaded(tiny, control_scale=scale)
        for edged in (False, True):
            batch = ImageBatch(ramp(edged), [3], np.array([0]), CLASSES)
            made[scale, edged] = act(operator, batch).images.astype(int)
    without = np.abs(made[0.0, True] - made[0.0, False]).mean()
    with_edges = np.abs(made[1.0, True] - made[1.0, False]).mean()
    assert with_edges > 3 * without


def test_thresholds_decide_what_an_edge_is(tiny: Callable[[str], Path]) -> None:
    batch = ImageBatch(ramp(True), [3], np.array([0]), CLASSES)
    found = [act(loaded(tiny, edge_range=pair), batch).images for pair in ((0.4, 0.8), (5.0, 6.0))]
    assert (found[0] != found[1]).any()
    with pytest.raises(RecipeError, match=r"edge_range = .*needs two lengths within \[0, 6\]"):
        parse(DiffusionControlParams, {"model": "m", "controlnet": "c", "edge_range": [3, 1]}, "diffusion_control")


def test_the_draws_are_those_of_an_edit(tiny: Callable[[str], Path]) -> None:
    operator = loaded(tiny, prompt="{label}")
    batch = make_batch([0, 1], (16, 16), 3)
    draws = operator.draw(batch)
    assert draws.columns["prompt"] == ["shirt", "shoe"] and draws.columns["strength"] == [1.0, 1.0]
    again = Draws({name: list(values) for name, values in draws.columns.items()})
    np.testing.assert_array_equal(act(operator, batch, again).images, act(operator, batch, draws).images)


def test_models_that_take_no_controlnet_say_so(tiny: Callable[[str], Path]) -> None:
    for kind in ("dit", "pixel"):
        with pytest.raises(ModelError, match="takes no ControlNet"):
            loaded(tiny, kind)
    operator = DiffusionControl(DiffusionControlParams(model="stable", controlnet="none"))
    with pytest.raises(ModelError, match=r"no ControlNet; its config\.json names no class"):
        operator.load("cpu", Assets(models={"model": tiny("stable"), "controlnet": tiny("pixel")}))
