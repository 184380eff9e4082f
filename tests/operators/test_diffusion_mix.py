"""DiffusionMix: another class, and a label that says how much of it."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from pipeline.contracts import ImageBatch, Supply
from pipeline.errors import InputError, RecipeError
from pipeline.operators.diffusion_edit import DiffusionEdit, DiffusionEditParams
from pipeline.operators.diffusion_mix import DiffusionMix, DiffusionMixParams
from pipeline.validation import parse
from tests.operators.conformance import CLASSES, OperatorConformance, act, make_batch
from tests.operators.test_diffusion_generate import supply_in
from tests.tiny_models import OWN_WARNING

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings(OWN_WARNING)]


class TestDiffusionMixConformance(OperatorConformance):
    operator = DiffusionMix
    params: ClassVar = {"model": "tiny.safetensors", "steps": 4, "strength_range": [0.3, 0.8], "blend": "half"}
    tolerance = 1

    def supply(self, folder: Path) -> Supply:
        return supply_in(folder)


def loaded(supply: Supply, **params: Any) -> DiffusionMix:
    operator = DiffusionMix(DiffusionMixParams(**{"steps": 10, "strength_range": (0.2, 0.9)} | params))
    operator.load("cpu", supply)
    return operator


def test_the_soft_label_is_one_minus_weight_and_weight(tmp_path: Path) -> None:
    for params, weight_of in (
        ({}, lambda strength: strength),
        ({"label_power": 0.5}, lambda strength: strength**0.5),
        ({"label_weight": 0.3}, lambda _: 0.3),
        ({"blend": "half"}, lambda strength: strength / 2),
    ):
        operator = loaded(supply_in(tmp_path), **params)
        batch = make_batch(list(range(12)), (8, 8))
        draws = operator.draw(batch)
        applied = act(operator, batch, draws)
        assert applied.soft_labels is not None and applied.labels is not None and not applied.errors
        for row, label in enumerate(batch.labels):
            target, weight = draws.columns["target"][row], weight_of(draws.columns["strength"][row])
            assert target != label and draws.columns["target_name"][row] == CLASSES[target]
            wanted = np.zeros(3)
            wanted[label], wanted[target] = 1 - weight, weight
            np.testing.assert_allclose(applied.soft_labels[row], wanted, atol=1e-6)
            assert applied.labels[row] == (target if weight > 0.5 else label)


def test_the_other_class_is_drawn_evenly_and_the_image_is_an_edit_towards_it(tmp_path: Path) -> None:
    supply = supply_in(tmp_path)
    operator = loaded(supply)
    many = ImageBatch(None, list(range(2000)), np.zeros(2000, np.int64), CLASSES)
    counts = Counter(operator.draw(many).columns["target"])
    assert set(counts) == {1, 2} and abs(counts[1] - 1000) < 112  # five standard deviations
    batch = make_batch(list(range(6)), (8, 8))
    draws = operator.draw(batch)
    edit = DiffusionEdit(DiffusionEditParams(steps=10))
    edit.load("cpu", supply)
    assert draws.columns["class_index"] == draws.columns["target"]
    np.testing.assert_array_equal(act(operator, batch, draws).images, act(edit, batch, draws).images)


def test_a_pipelines_prompt_names_the_other_class(tiny: Callable[[str], Path]) -> None:
    operator = loaded(Supply(models={"model": tiny("stable")}), prompt="a {label}", steps=5)
    batch = make_batch(list(range(6)), (16, 16), 3)
    draws = operator.draw(batch)
    assert draws.columns["prompt"] == [f"a {name}" for name in draws.columns["target_name"]]
    assert act(operator, batch, draws).images.shape == (6, 16, 16, 3)


def test_half_of_the_source_stays_on_the_side_that_was_drawn(tmp_path: Path) -> None:
    operator = loaded(supply_in(tmp_path), blend="half")
    batch = make_batch(list(range(16)), (8, 8))
    assert batch.images is not None
    draws = operator.draw(batch)
    assert set(draws.columns["side"]) == {"left", "right", "top", "bottom"}
    images = act(operator, batch, draws).images
    halves = {"left": np.s_[:, :4], "right": np.s_[:, 4:], "top": np.s_[:4], "bottom": np.s_[4:]}
    other = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}
    for row, side in enumerate(draws.columns["side"]):
        np.testing.assert_array_equal(images[row][halves[side]], batch.images[row][halves[side]])
        assert (images[row][halves[other[side]]] != batch.images[row][halves[other[side]]]).any()


def test_rows_without_a_label_or_another_class_are_errors_of_their_own(tmp_path: Path) -> None:
    operator = loaded(supply_in(tmp_path, ("shirt", "hat")))
    batch = ImageBatch(make_batch([0, 1, 2], (8, 8)).images, [1, 2, 3], np.array([-1, 1, 0]), CLASSES)
    draws = operator.draw(batch)
    assert draws.columns["target"] == [-1, 0, -1]
    codes = {row: error.code for row, error in act(operator, batch, draws).errors.items()}
    assert codes == {0: "no_label", 2: "unknown_class"}  # the model knows shirts alone
    with pytest.raises(InputError, match="the input names no classes"):
        operator.draw(ImageBatch(batch.images, batch.seeds, batch.labels, ()))


@pytest.mark.parametrize(
    ("params", "message"), [({"label_weight": 1.5}, "within"), ({"condition": "none"}, "no class")]
)
def test_weights_and_conditions_that_make_no_sense_are_refused(params: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse(DiffusionMixParams, params, "diffusion_mix")
