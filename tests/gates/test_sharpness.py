"""How sharp an image is beside its source."""

from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image, ImageFilter

from palimpsest.testing.gates import GateConformance
from pipeline.contracts import MadeBatch, Pixels
from pipeline.errors import RecipeError
from pipeline.execution.gate_scores import keeps
from pipeline.gates.sharpness import Sharpness, edges
from pipeline.validation import parse
from tests.fixtures.shard_files import pictures


class TestSharpnessConformance(GateConformance):
    gate = Sharpness
    params: ClassVar[dict[str, Any]] = {"min_ratio": 0.3, "max_ratio": 4.0}


def blurred(image: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(2)))


def test_the_variance_of_the_laplacian_by_hand() -> None:
    image = np.zeros((3, 3, 1), np.uint8)
    image[1, 1] = 10
    laplacian = np.array([[0, 10, 0], [10, -40, 10], [0, 10, 0]], float)
    assert edges(image) == pytest.approx(laplacian.var(), rel=1e-12)
    assert edges(np.repeat(image, 3, axis=2)) == pytest.approx(laplacian.var(), rel=1e-9)


def test_blurred_is_refused_equal_is_one_and_noisy_is_refused() -> None:
    gate = Sharpness(Sharpness.Params(min_ratio=0.25, max_ratio=4.0))
    sources = np.stack(pictures(4, 64, 64))
    soft = np.stack([blurred(each) for each in sources])
    noise = np.random.default_rng(0).integers(0, 256, sources.shape, np.uint8)

    def scores(images: Pixels) -> list[float]:
        batch = MadeBatch(images, sources, np.zeros(4, np.int64), (), [None] * 4)
        return [float(score) for score in gate.score(batch)]

    assert scores(sources) == [1.0] * 4
    assert all(score < 0.25 and not keeps(gate, score) for score in scores(soft))
    assert all(score > 4 and not keeps(gate, score) for score in scores(noise))
    assert all(keeps(gate, score) for score in scores(sources))


def test_limits_the_wrong_way_round_are_one_line() -> None:
    with pytest.raises(RecipeError, match="max_ratio is below min_ratio"):
        parse(Sharpness.Params, {"min_ratio": 2, "max_ratio": 1}, "sharpness")


def test_without_sources_it_says_so() -> None:
    batch = MadeBatch(np.zeros((1, 4, 4, 1), np.uint8), None, np.zeros(1, np.int64), (), [None])
    with pytest.raises(ValueError, match="source"):
        Sharpness(Sharpness.Params()).score(batch)
