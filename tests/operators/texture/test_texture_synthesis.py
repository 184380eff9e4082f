"""TextureSynthesis: the region drawn, and nothing else, is made anew from the rest."""

from typing import Any, ClassVar

import numpy as np
import pytest

from palimpsest.testing.operators import OperatorConformance, act, make_batch
from pipeline.contracts import ImageBatch
from pipeline.errors import JobError, RecipeError
from pipeline.operators.texture.texture_synthesis import TextureSynthesis, TextureSynthesisParams
from pipeline.validation import parse


class TestTextureSynthesisFillConformance(OperatorConformance):
    operator = TextureSynthesis
    params: ClassVar = {"window_px": 5, "candidates": 64, "max_pixels": 40}


class TestTextureSynthesisGrowConformance(OperatorConformance):
    operator = TextureSynthesis
    params: ClassVar = {"mode": "grow", "window_px": 5, "candidates": 64, "max_pixels": 100}


def synthesis(**params: Any) -> TextureSynthesis:
    return TextureSynthesis(parse(TextureSynthesisParams, params, "texture_synthesis"))


def inside(row: dict[str, Any], size: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(size, dtype=bool)
    mask[row["top"] : row["top"] + row["height"], row["left"] : row["left"] + row["width"]] = True
    return mask


@pytest.mark.parametrize("mode", ["fill", "grow"])
@pytest.mark.parametrize("channels", [1, 3])
def test_only_the_drawn_region_changes_and_its_pixels_come_from_the_rest(mode: str, channels: int) -> None:
    operator = synthesis(mode=mode, window_px=5)
    batch = make_batch(list(range(4)), (20, 26), channels)
    assert batch.images is not None
    draws = operator.draw(batch)
    made = act(operator, batch, draws).images
    for index, image in enumerate(batch.images):
        region = inside(draws.row(index), (20, 26))
        known = region if mode == "grow" else ~region
        np.testing.assert_array_equal(made[index][known], image[known])
        assert (made[index][~known] != image[~known]).mean() > 0.8  # noise: it cannot be guessed
        assert {tuple(pixel) for pixel in made[index][~known]} <= {tuple(pixel) for pixel in image[known]}


def test_stripes_come_back_whole() -> None:
    stripes = np.tile(np.array((20, 120, 220), dtype=np.uint8), 10)[None, :28, None].repeat(28, axis=0)
    batch = ImageBatch(np.stack([stripes] * 4), [1, 2, 3, 4], np.zeros(4, dtype=np.int64))
    for params in ({"mode": "fill"}, {"mode": "grow", "hole_share_range": (0.5, 0.6)}):
        np.testing.assert_array_equal(act(synthesis(**params), batch).images, batch.images)


def test_a_hole_is_a_square_of_the_drawn_share_anywhere() -> None:
    draws = synthesis(hole_share_range=(0.1, 0.3)).draw(make_batch(list(range(500)), (30, 40)))
    heights, widths = np.array(draws.columns["height"]), np.array(draws.columns["width"])
    np.testing.assert_array_equal(heights, widths)
    shares = heights * widths / 1200
    assert shares.min() > 0.09 and shares.max() < 0.32 and shares.mean() == pytest.approx(0.2, abs=0.02)
    tops, lefts = np.array(draws.columns["top"]), np.array(draws.columns["left"])
    assert tops.min() == lefts.min() == 0
    assert (tops + heights).max() == 30 and (lefts + widths).max() == 40


def test_what_stays_when_it_grows_has_the_proportions_of_the_image() -> None:
    draws = synthesis(mode="grow", hole_share_range=(0.75, 0.75)).draw(make_batch([0, 1], (30, 40)))
    assert draws.columns["height"] == [15, 15] and draws.columns["width"] == [20, 20]


@pytest.mark.parametrize("mode", ["fill", "grow"])
def test_no_more_pixels_are_made_than_allowed(mode: str) -> None:
    batch = make_batch(list(range(20)), (50, 60))
    draws = synthesis(mode=mode, hole_share_range=(0.5, 0.9), max_pixels=300).draw(batch)
    for index in range(20):
        share = inside(draws.row(index), (50, 60)).sum()
        made = share if mode == "fill" else 3000 - share
        assert 200 < made <= 300


@pytest.mark.parametrize("mode", ["fill", "grow"])
@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 2), (1, 200), (200, 1), (3, 90)])
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_something_always_stays_and_something_is_made(mode: str, size: tuple[int, int], share: float) -> None:
    operator = synthesis(mode=mode, hole_share_range=(share, share))
    batch = make_batch([0, 1, 2], size, 3)
    draws = operator.draw(batch)
    made = act(operator, batch, draws).images
    assert batch.images is not None and made.shape == batch.images.shape
    for index in range(3):
        region = inside(draws.row(index), size)
        known = region if mode == "grow" else ~region
        assert known.any()
        if mode == "fill" and size != (1, 1):
            assert not known.all()


def test_one_pixel_comes_back_as_it_is() -> None:
    batch = make_batch([0, 1, 2], (1, 1), 3)
    for mode in ("fill", "grow"):
        np.testing.assert_array_equal(act(synthesis(mode=mode), batch).images, batch.images)


def test_shares_have_a_default_for_each_mode() -> None:
    assert TextureSynthesisParams().hole_share_range == (0.05, 0.2)
    assert TextureSynthesisParams(mode="grow").hole_share_range == (0.5, 0.75)
    assert TextureSynthesisParams(mode="grow", hole_share_range=(0.1, 0.2)).hole_share_range == (0.1, 0.2)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"window_px": 6}, "window_px = 6: .*needs an odd number"),
        ({"hole_share_range": (0.4, 0.2)}, r"hole_share_range = .*within \[0, 1\], the smaller one first"),
        ({"mode": "shrink"}, "mode = 'shrink': .*'fill' or 'grow'"),
        ({"max_pixels": 0}, "max_pixels = 0"),
        ({"error_threshold": -0.1}, "error_threshold = -0.1"),
    ],
)
def test_parameters_out_of_range_are_refused(params: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=f"texture_synthesis.{message}"):
        synthesis(**params)


def test_no_images_is_an_error_of_the_job() -> None:
    empty = ImageBatch(images=None, seeds=[1], labels=np.array([0]))
    with pytest.raises(JobError, match="no images to change"):
        synthesis().draw(empty)
