"""How empty an image is."""

from typing import Any, ClassVar

import numpy as np
import pytest

from palimpsest.testing.gates import GateConformance
from pipeline.contracts import Pixels
from pipeline.execution.gate_scores import keeps
from pipeline.gates.blank import Blank, share_of_one_colour


class TestBlankConformance(GateConformance):
    gate = Blank
    params: ClassVar[dict[str, Any]] = {"max_share": 0.9}


def half(first: tuple[int, ...], second: tuple[int, ...]) -> Pixels:
    image = np.empty((10, 10, len(first)), np.uint8)
    image[:, :5], image[:, 5:] = first, second
    return image


@pytest.mark.parametrize(
    ("image", "tolerance", "share"),
    [
        (half((7, 7, 7), (7, 7, 7)), 0, 1.0),
        (half((0,), (255,)), 8, 0.5),
        (half((100,), (116,)), 8, 1.0),  # both within 8 levels of 108
        (half((100,), (117,)), 8, 0.5),
        (half((255, 0, 0), (0, 130, 0)), 8, 0.5),  # of one luma, nearly: still two colours
        (half((0,), (3,)), 8, 1.0),  # the window may hang over the end
        (half((255,), (252,)), 8, 1.0),
    ],
)
def test_the_share_of_one_colour(image: Pixels, tolerance: int, share: float) -> None:
    assert share_of_one_colour(image, tolerance) == share


def test_an_empty_image_is_refused_and_a_drawing_kept() -> None:
    gate = Blank(Blank.Params(max_share=0.95))
    image = np.full((20, 20, 1), 200, np.uint8)
    assert not keeps(gate, share_of_one_colour(image, 8))
    image[:1] = 0  # exactly the threshold is kept
    assert share_of_one_colour(image, 8) == 0.95 and keeps(gate, 0.95)
    noise = np.random.default_rng(0).normal(200, 2, image.shape).clip(0, 255).astype(np.uint8)
    assert not keeps(gate, share_of_one_colour(noise, 8))
