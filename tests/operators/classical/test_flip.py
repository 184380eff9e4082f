"""Flip: mirrors exactly, as often as asked."""

from typing import Any, ClassVar

import numpy as np
import pytest

from palimpsest.testing.operators import OperatorConformance, act, make_batch
from pipeline.contracts import ImageBatch
from pipeline.errors import JobError, RecipeError
from pipeline.operators.classical.flip import Flip, FlipParams
from pipeline.validation import parse


class TestFlipConformance(OperatorConformance):
    operator = Flip


class TestFlipBothWaysConformance(OperatorConformance):
    operator = Flip
    params: ClassVar = {"probability": 0.3, "vertical_probability": 0.6}


class TestFlipAlwaysConformance(OperatorConformance):
    operator = Flip
    params: ClassVar = {"probability": 1.0}
    draws_vary = False


def flip(**params: Any) -> Flip:
    return Flip(FlipParams(**params))


@pytest.mark.parametrize("size", [(5, 9), (5, 8), (300, 400), (2_100, 24)])
@pytest.mark.parametrize("channels", [1, 3])
def test_probability_one_mirrors_every_image(size: tuple[int, int], channels: int) -> None:
    batch = make_batch(list(range(3)), size, channels)
    assert batch.images is not None
    both = flip(probability=1, vertical_probability=1)
    np.testing.assert_array_equal(act(flip(probability=1), batch).images, batch.images[:, :, ::-1])
    np.testing.assert_array_equal(act(both, batch).images, batch.images[:, ::-1, ::-1])
    np.testing.assert_array_equal(act(flip(probability=0), batch).images, batch.images)


def test_each_image_is_mirrored_as_drawn() -> None:
    batch = make_batch(list(range(40)), (6, 11), 3)
    assert batch.images is not None
    operator = flip(probability=0.5, vertical_probability=0.5)
    draws = operator.draw(batch)
    made = act(operator, batch, draws).images
    for index, image in enumerate(batch.images):
        row = draws.row(index)
        wanted = image[:, ::-1] if row["horizontal"] else image
        wanted = wanted[::-1] if row["vertical"] else wanted
        np.testing.assert_array_equal(made[index], wanted)


def test_the_share_mirrored_is_the_probability() -> None:
    batch = make_batch(list(range(4000)), (1, 1))
    draws = flip(probability=0.3, vertical_probability=0.8).draw(batch)
    assert np.mean(draws.columns["horizontal"]) == pytest.approx(0.3, abs=0.03)  # four standard deviations
    assert np.mean(draws.columns["vertical"]) == pytest.approx(0.8, abs=0.03)


def test_a_probability_above_one_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"flip.probability = 1.5: .*less than or equal to 1"):
        parse(FlipParams, {"probability": 1.5}, "flip")


def test_no_images_is_an_error_of_the_job() -> None:
    empty = ImageBatch(images=None, seeds=[1], labels=np.array([0]))
    operator = flip(probability=1)
    with pytest.raises(JobError, match="no images to mirror"):
        act(operator, empty)
