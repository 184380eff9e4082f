"""DiffusionMix: another class, and a label that says how much of it."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from palimpsest.testing.operators import CLASSES, OperatorConformance, act, assert_near, make_batch, partner_of
from pipeline.contracts import Assets, ImageBatch, Partner, PartnerRow
from pipeline.errors import InputError, RecipeError
from pipeline.operators.diffusion.diffusion_edit import DiffusionEdit, DiffusionEditParams
from pipeline.operators.diffusion.diffusion_mix import DiffusionMix, DiffusionMixParams
from pipeline.requirements import required_partners
from pipeline.validation import parse
from tests.fixtures.tiny_models import OWN_WARNING
from tests.operators.diffusion.test_diffusion_generate import assets_in

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings(OWN_WARNING)]


class TestDiffusionMixTowardRowConformance(OperatorConformance):
    operator = DiffusionMix
    params: ClassVar = {"model": "tiny.safetensors", "steps": 4, "strength_range": [0.3, 0.8], "mix_with": "row"}
    tolerance = 1

    def assets(self, folder: Path) -> Assets:
        return assets_in(folder)


class TestDiffusionMixConformance(OperatorConformance):
    operator = DiffusionMix
    params: ClassVar = {"model": "tiny.safetensors", "steps": 4, "strength_range": [0.3, 0.8], "blend": "half"}
    tolerance = 1

    def assets(self, folder: Path) -> Assets:
        return assets_in(folder)


def loaded(assets: Assets, **params: Any) -> DiffusionMix:
    operator = DiffusionMix(DiffusionMixParams(**{"steps": 10, "strength_range": (0.2, 0.9)} | params))
    operator.load("cpu", assets)
    return operator


def test_the_soft_label_is_one_minus_weight_and_weight(tmp_path: Path) -> None:
    for params, weight_of in (
        ({}, lambda strength: strength),
        ({"label_power": 0.5}, lambda strength: strength**0.5),
        ({"label_weight": 0.3}, lambda _: 0.3),
        ({"blend": "half"}, lambda strength: strength / 2),
    ):
        operator = loaded(assets_in(tmp_path), **params)
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
    assets = assets_in(tmp_path)
    operator = loaded(assets)
    many = ImageBatch(None, list(range(2000)), np.zeros(2000, np.int64), CLASSES)
    counts = Counter(operator.draw(many).columns["target"])
    assert set(counts) == {1, 2} and abs(counts[1] - 1000) < 112  # five standard deviations
    batch = make_batch(list(range(6)), (8, 8))
    draws = operator.draw(batch)
    edit = DiffusionEdit(DiffusionEditParams(steps=10))
    edit.load("cpu", assets)
    assert draws.columns["class_index"] == draws.columns["target"]
    np.testing.assert_array_equal(act(operator, batch, draws).images, act(edit, batch, draws).images)


def test_a_pipelines_prompt_names_the_other_class(tiny: Callable[[str], Path]) -> None:
    operator = loaded(Assets(models={"model": tiny("stable")}), prompt="a {label}", steps=5)
    batch = make_batch(list(range(6)), (16, 16), 3)
    draws = operator.draw(batch)
    assert draws.columns["prompt"] == [f"a {name}" for name in draws.columns["target_name"]]
    assert act(operator, batch, draws).images.shape == (6, 16, 16, 3)


@pytest.mark.parametrize("mix_with", ["class", "row"])
def test_half_of_the_source_stays_on_the_side_that_was_drawn(mix_with: str, tmp_path: Path) -> None:
    operator = loaded(assets_in(tmp_path), blend="half", mix_with=mix_with)
    batch = with_partners(16)
    assert batch.images is not None
    draws = operator.draw(batch)
    assert set(draws.columns["side"]) == {"left", "right", "top", "bottom"}
    images = act(operator, batch, draws).images
    halves = {"left": np.s_[:, :4], "right": np.s_[:, 4:], "top": np.s_[:4], "bottom": np.s_[4:]}
    other = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}
    for row, side in enumerate(draws.columns["side"]):
        np.testing.assert_array_equal(images[row][halves[side]], batch.images[row][halves[side]])
        assert (images[row][halves[other[side]]] != batch.images[row][halves[other[side]]]).any()


def test_another_row_gives_its_class_and_a_share_of_its_pixels(tmp_path: Path) -> None:
    assets = assets_in(tmp_path)
    edit = DiffusionEdit(DiffusionEditParams(steps=10))
    edit.load("cpu", assets)
    batch = with_partners(6)
    assert batch.images is not None
    images = batch.images.astype(np.float64)
    for share in (0.0, 0.3, 1.0):
        operator = loaded(assets, mix_with="row", partner_share=share)
        draws = operator.draw(batch)
        rows = required_partners(batch.partners)
        assert draws.columns["target"] == [row.label for row in rows if row]
        assert draws.columns["partner_row"] == list(range(1, 7))
        assert draws.partners == [[row.partner] for row in rows if row]
        for strength, weight in zip(draws.columns["strength"], draws.columns["weight"], strict=True):
            assert weight == pytest.approx(1 - (1 - strength) * (1 - share))
        others = np.stack([row.pixels for row in rows if row])
        mixed = np.round((1 - share) * images + share * others).astype(np.uint8)
        wanted = act(edit, replace(batch, images=mixed), draws).images
        assert_near(act(operator, batch, draws).images, wanted, 1 if share in (0, 1) else 3)  # mixed is rounded


def test_another_row_of_any_size_and_number_of_channels_will_do(tmp_path: Path) -> None:
    operator = loaded(assets_in(tmp_path), mix_with="row")
    for size, channels in (((1, 1), 3), ((40, 3), 1), ((8, 8), 3)):
        pixels = np.full((*size, channels), 200, np.uint8)
        rows = [PartnerRow(Partner("mix", "/a.parquet", "0" * 64, 5), pixels, 2)] * 2
        made = act(operator, replace(make_batch([0, 1], (8, 8)), partners=rows))
        assert made.images.shape == (2, 8, 8, 1) and not made.errors and not made.rejected


def test_without_a_row_of_another_class_an_image_is_rejected_and_the_others_are_not(tmp_path: Path) -> None:
    operator = loaded(assets_in(tmp_path, ("shirt", "shoe")), mix_with="row")
    batch = with_partners(4)
    rows = required_partners(batch.partners)
    alone = replace(batch, partners=[rows[0], None, rows[2], None], labels=np.array([0, 1, 2, -1]))
    draws = operator.draw(alone)
    assert draws.columns["target"] == [1, -1, 0, -1] and draws.columns["partner_row"] == [1, None, 3, None]
    made = act(operator, alone, draws)
    assert made.rejected == {1: "no_partner"}
    assert {row: error.code for row, error in made.errors.items()} == {3: "no_label"}
    unknown = replace(batch, labels=np.array([0, 1, 0, 0]))  # whose other rows are of classes 1, 2, 0 and 1
    assert {row: error.code for row, error in act(operator, unknown).errors.items()} == {1: "unknown_class"}


def with_partners(count: int) -> ImageBatch:
    """Images and further rows of 8 px."""
    batch = make_batch(list(range(count)), (8, 8))
    rows = [partner_of(index, "mix", 1) for index in range(count)]
    pixels = make_batch(list(range(100, 100 + count)), (8, 8)).images
    assert pixels is not None
    return replace(batch, partners=[replace(row, pixels=each) for row, each in zip(rows, pixels, strict=True)])


def test_rows_without_a_label_or_another_class_are_errors_of_their_own(tmp_path: Path) -> None:
    operator = loaded(assets_in(tmp_path, ("shirt", "hat")))
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
