"""How near an image is to its source."""

from typing import Any, ClassVar

import numpy as np
import pytest

from palimpsest.testing.gates import GateConformance
from pipeline.contracts import MadeBatch
from pipeline.errors import RecipeError
from pipeline.execution.gate_scores import keeps
from pipeline.gates.similarity import C1, C2, Similarity, similarity, ssim
from pipeline.validation import parse
from tests.fixtures.shard_files import pictures


class TestSimilarityConformance(GateConformance):
    gate = Similarity
    params: ClassVar[dict[str, Any]] = {"min_similarity": 0.05, "max_similarity": 0.97}


def test_ssim_is_that_of_the_paper_window_by_window() -> None:
    first, second = np.random.default_rng(0).integers(0, 256, (2, 12, 9)).astype(float)
    found = []
    for top in range(12 - 6):
        for left in range(9 - 6):
            x, y = (plane[top : top + 7, left : left + 7].ravel() for plane in (first, second))
            covariance = ((x - x.mean()) * (y - y.mean())).mean()
            numerator = (2 * x.mean() * y.mean() + C1) * (2 * covariance + C2)
            found.append(numerator / ((x.mean() ** 2 + y.mean() ** 2 + C1) * (x.var() + y.var() + C2)))
    assert ssim(first, second) == pytest.approx(np.mean(found), rel=1e-9)


def test_copies_strangers_and_what_lies_between() -> None:
    gate = Similarity(Similarity.Params(min_similarity=0.1, max_similarity=0.98))
    image, stranger = pictures(2, 48, 64)
    grain = np.random.default_rng(1).integers(-3, 4, image.shape)
    grained = (image.astype(int) + grain).clip(0, 255).astype(np.uint8)
    mixed = ((image.astype(int) + stranger) // 2).astype(np.uint8)
    assert similarity(image, image) == 1.0 and not keeps(gate, 1.0)
    assert 0.98 < similarity(image, grained) < 1  # grain is gone at 32 px
    assert 0.1 < similarity(image, mixed) < 0.98 and keeps(gate, similarity(image, mixed))
    noise = np.random.default_rng(2).integers(0, 256, image.shape, np.uint8)
    assert similarity(image, noise) < 0.1 and not keeps(gate, similarity(image, noise))


def test_a_grey_copy_of_a_grey_source_is_a_copy_in_any_channels() -> None:
    grey = pictures(1, 28, 28, channels=1)[0]
    assert similarity(np.repeat(grey, 3, axis=2), grey) == 1.0


def test_limits_the_wrong_way_round_are_one_line() -> None:
    with pytest.raises(RecipeError, match="max_similarity is below min_similarity"):
        parse(Similarity.Params, {"min_similarity": 0.9, "max_similarity": 0.1}, "similarity")


def test_without_sources_it_says_so() -> None:
    batch = MadeBatch(np.zeros((1, 4, 4, 1), np.uint8), None, np.zeros(1, np.int64), (), [None])
    with pytest.raises(ValueError, match="source"):
        Similarity(Similarity.Params()).score(batch)
