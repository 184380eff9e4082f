"""ColorTransfer: colours of real image files, shapes left alone."""

from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from palimpsest.testing.operators import OperatorConformance, act, make_batch
from pipeline.contracts import Assets, Draws, ImageBatch, Pixels, ReferenceImage, Requirements
from pipeline.errors import JobError, RecipeError
from pipeline.operators.style.color_transfer import ColorTransfer, ColorTransferParams
from pipeline.validation import parse
from tests.fixtures.reference_images import no_image, reference, style


class ColorTransferConformance(OperatorConformance):
    operator = ColorTransfer

    def assets(self, folder: Path) -> Assets:
        return Assets(images={"styles": [style(1), style(2, (24, 90)), style(3, channels=1)]})


class TestReinhardConformance(ColorTransferConformance):
    params: ClassVar = {"method": "reinhard"}


class TestCoralConformance(ColorTransferConformance):
    params: ClassVar = {"method": "coral"}


class TestOptimalTransportConformance(ColorTransferConformance):
    params: ClassVar = {"method": "optimal_transport"}


def loaded(*styles: ReferenceImage, **params: Any) -> ColorTransfer:
    operator = ColorTransfer(ColorTransferParams(**params))
    operator.load("cpu", Assets(images={"styles": styles}))
    return operator


def coloured(operator: ColorTransfer, images: Pixels, alpha: float) -> Pixels:
    """`images` with the operator's only style."""
    count = len(images)
    batch = ImageBatch(images, list(range(count)), np.zeros(count, dtype=np.int64))
    drawn = operator.draw(batch)
    return act(operator, batch, Draws({**drawn.columns, "alpha": [alpha] * count}, drawn.partners)).images


def soft(seed: int, channels: int = 3) -> Pixels:
    """An image [1, 40, 40, C] of middling colours: nothing is clipped when its statistics move a little."""
    rng = np.random.default_rng(seed)
    colours = rng.standard_normal((40, 40, channels)) @ rng.uniform(-8, 8, (channels, channels)) + rng.uniform(
        105, 150, channels
    )
    return np.rint(colours).clip(60, 200).astype(np.uint8)[None]


@pytest.mark.parametrize("method", ["coral", "optimal_transport"])
def test_with_alpha_1_an_image_has_the_mean_and_covariance_of_the_reference(method: str) -> None:
    source, target = soft(1), soft(2)
    made = coloured(loaded(reference(target[0], "a.png"), method=method, max_gain=1000), source, 1.0)
    got, wanted = made.reshape(-1, 3), target.reshape(-1, 3)
    np.testing.assert_allclose(got.mean(axis=0), wanted.mean(axis=0), atol=0.05)  # rounded to levels
    np.testing.assert_allclose(np.cov(got.T), np.cov(wanted.T), atol=0.5)


@pytest.mark.parametrize("method", ["reinhard", "coral", "optimal_transport"])
def test_alpha_0_changes_nothing_and_alpha_one_half_is_the_middle(method: str) -> None:
    source = soft(3)
    operator = loaded(reference(soft(4)[0], "a.png"), method=method)
    np.testing.assert_array_equal(coloured(operator, source, 0.0), source)
    half, whole = coloured(operator, source, 0.5).astype(float), coloured(operator, source, 1.0).astype(float)
    assert np.abs(half - (source + whole) / 2).max() <= 1
    assert np.abs(whole - source).mean() > 2


def test_each_method_makes_another_image() -> None:
    made = [
        coloured(loaded(style(1), method=method), soft(5), 1.0).astype(int)
        for method in ("reinhard", "coral", "optimal_transport")
    ]
    assert all(np.abs(made[one] - made[other]).mean() > 0.5 for one, other in ((0, 1), (0, 2), (1, 2)))


def test_grey_stays_grey_with_the_mean_of_the_luma_of_the_reference() -> None:
    target = soft(6)
    made = coloured(loaded(reference(target[0], "a.png")), soft(7, channels=1), 1.0)
    luma = target[0] @ np.array((0.299, 0.587, 0.114))
    assert made.shape == (1, 40, 40, 1)
    assert made.mean() == pytest.approx(luma.mean(), abs=0.1)
    assert made.std() == pytest.approx(luma.std(), abs=0.1)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1)])
def test_one_pixel_and_slivers_are_coloured(size: tuple[int, int]) -> None:
    images = np.full((2, *size, 3), 90, dtype=np.uint8)
    made = coloured(loaded(reference(np.full((4, 4, 3), (250, 10, 30), dtype=np.uint8), "red.png")), images, 1.0)
    np.testing.assert_array_equal(made, np.broadcast_to(np.array((250, 10, 30), dtype=np.uint8), made.shape))


def test_references_and_shares_are_drawn_evenly_and_named() -> None:
    styles = [style(index) for index in range(4)]
    draws = loaded(*styles, alpha_range=(0.2, 0.6)).draw(make_batch(list(range(2000)), (1, 1)))
    alphas = np.array(draws.columns["alpha"])
    assert alphas.min() >= 0.2 and alphas.max() < 0.6
    assert alphas.mean() == pytest.approx(0.4, abs=0.01)
    counts = Counter(draws.columns["style_name"])
    assert sum((counts[f"style-{index}.png"] - 500) ** 2 / 500 for index in range(4)) < 16.3  # 3 degrees, p = 0.001
    assert draws.partners is not None
    for key, (partner,) in zip(draws.columns["style"], draws.partners, strict=True):
        assert partner.role == "style" and partner.sha256.startswith(key)


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha_range", [(-0.1, 0.5), (0.5, 1.1), (0.9, 0.3), (0.2, float("nan"))])
def test_a_share_out_of_range_is_refused(alpha_range: tuple[float, float]) -> None:
    with pytest.raises(RecipeError, match=r"color_transfer.alpha_range = .*within \[0, 1\], the smaller one first"):
        parse(ColorTransferParams, {"alpha_range": alpha_range}, "color_transfer")


def test_an_unknown_method_names_the_known_ones() -> None:
    with pytest.raises(RecipeError, match=r"method = 'sliced': .*'reinhard', 'coral' or 'optimal_transport'"):
        parse(ColorTransferParams, {"method": "sliced"}, "color_transfer")


def test_needs_are_the_references() -> None:
    assert ColorTransfer(ColorTransferParams(styles="paintings/")).requirements() == Requirements(
        images={"styles": "paintings/"}
    )


def test_a_reference_that_is_no_image_is_named() -> None:
    with pytest.raises(JobError, match=r"color_transfer.styles: /pictures/notes.txt: not usable as a style"):
        loaded(style(1), no_image())


def test_no_reference_at_all_is_an_error_of_the_job() -> None:
    with pytest.raises(JobError, match=r"color_transfer.styles = 'builtin:styles': there is no image in it"):
        loaded()


def test_a_reference_that_is_a_sliver_is_named() -> None:
    with pytest.raises(JobError, match=r"style-1.png: 400 x 4 px is too narrow for a style"):
        loaded(style(1, (400, 4)))


def test_a_reference_of_the_lineage_that_is_gone_is_named() -> None:
    with pytest.raises(JobError, match="style feedfeedfeedfeed of the lineage is not in it"):
        act(loaded(style(1)), make_batch([0]), Draws({"style": ["feed" * 4], "style_name": [""], "alpha": [0.5]}))


def test_no_images_is_an_error_of_the_job() -> None:
    empty = ImageBatch(images=None, seeds=[1], labels=np.array([0]))
    with pytest.raises(JobError, match="no images to colour"):
        act(loaded(style(1)), empty)


def test_draw_before_load_says_so() -> None:
    with pytest.raises(RuntimeError, match="load comes before draw"):
        ColorTransfer(ColorTransferParams()).draw(make_batch([0]))
