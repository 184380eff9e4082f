"""Conformance tests of a gate, as a class to subclass.

    class TestBlankConformance(GateConformance):
        gate = Blank
        params: ClassVar = {"max_share": 0.9}

A gate that needs a model also overrides `assets`.
"""

import json
import pickle
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from palimpsest.testing.imports import imported_alone
from pipeline.contracts import Assets, Gate, MadeBatch, Pixels
from pipeline.errors import RecipeError
from pipeline.registry import declaration_fault
from pipeline.seeding import canonical_json
from pipeline.validation import parse

SIZES = ((28, 28), (1, 1), (7, 33), (64, 48))
CLASSES = ("shirt", "shoe", "bag")


def picture(index: int, size: tuple[int, int], channels: int) -> Pixels:
    """An image [H, W, C] that depends on its index alone."""
    return np.random.default_rng(index).integers(0, 256, (*size, channels), dtype=np.uint8)


def made_batch(
    indexes: list[int],
    size: tuple[int, int] = (28, 28),
    channels: int = 3,
    level: int | None = None,
    source: tuple[int, int, int] | None = None,
) -> MadeBatch:
    """Images, sources, labels and prompts that depend on the index alone.

    level: constant images, and sources, of that grey level. source: size and channels of the sources.
    """
    height, width, depth = source or (*size, channels)
    images = np.stack([picture(index, size, channels) for index in indexes])
    sources = np.stack([picture(index // 2 + 1000, (height, width), depth) for index in indexes])
    if level is not None:
        images[:], sources[:] = level, level
    labels = np.array([index % len(CLASSES) for index in indexes], np.int64)
    return MadeBatch(images, sources, labels, CLASSES, [f"a picture of {'abcdefgh'[i % 8]}" for i in indexes])


class GateConformance:
    """Subclass it, name the gate and its parameters. tolerance: of a score alone and in a batch; 0 without networks."""

    gate: ClassVar[type[Gate]]
    params: ClassVar[dict[str, Any]] = {}
    tolerance: ClassVar[float] = 0.0

    def assets(self, folder: Path) -> Assets:
        """Models for `load`; override it where `requirements()` asks for some."""
        return Assets()

    @pytest.fixture
    def made(self, tmp_path: Path) -> Gate:
        made = self.make()
        made.load("cpu", self.assets(tmp_path))
        return made

    def make(self) -> Gate:
        return self.gate(self.gate.Params(**self.params))

    # ---- declared ----

    def test_declares_what_it_is(self) -> None:
        assert (self.gate.__doc__ or "").strip() and self.gate.__doc__ != Gate.__doc__
        assert declaration_fault(self.gate) is None and self.gate.micro_batch >= 1
        assert self.gate.source.strip()
        assert min(self.gate.s_per_image) > 0

    def test_every_parameter_is_described(self) -> None:
        bare = [name for name, field in self.gate.Params.model_fields.items() if not field.description]
        assert not bare and "branches" in self.gate.Params.model_fields

    def test_parameters_are_closed_and_frozen(self) -> None:
        params = self.gate.Params(**self.params)
        with pytest.raises(ValueError, match="frozen"):
            setattr(params, next(iter(self.gate.Params.model_fields)), None)

    def test_an_unknown_parameter_names_the_nearest_known_one(self) -> None:
        known = max(self.gate.Params.model_fields, key=len)
        with pytest.raises(RecipeError, match=f"{known}x: unknown key.*did you mean '{known}'"):
            parse(self.gate.Params, {**self.params, f"{known}x": 1}, self.gate.name)

    def test_resolved_parameters_parse_to_themselves(self) -> None:
        params = self.gate.Params(**self.params)
        assert self.gate.Params(**json.loads(canonical_json(params.model_dump(mode="json")))) == params

    def test_import_and_construction_are_light(self) -> None:
        found = imported_alone(self.gate, self.params)
        assert found["heavy"] == []
        assert found["seconds"] < 0.05

    def test_pickles_before_load(self, tmp_path: Path) -> None:
        copy, original = pickle.loads(pickle.dumps(self.make())), self.make()
        assets = self.assets(tmp_path)
        for each in (copy, original):
            each.load("cpu", assets)
        assert copy.params == original.params and copy.bounds == original.bounds
        np.testing.assert_array_equal(copy.score(made_batch([0, 1])), original.score(made_batch([0, 1])))

    def test_assets_are_what_it_requires(self, tmp_path: Path) -> None:
        requirements, assets = self.make().requirements(), self.assets(tmp_path)
        assert set(requirements.models) == set(assets.models) and set(requirements.images) == set(assets.images)

    def test_bounds_are_in_order(self) -> None:
        lower, upper = self.make().bounds
        assert lower <= upper

    # ---- score ----

    def test_scores_are_one_finite_number_an_image_for_every_size(self, made: Gate) -> None:
        for size in SIZES:
            for channels in (1, 3):
                self.check(made.score(made_batch(list(range(6)), size, channels)), 6)

    def test_scores_differ(self, made: Gate) -> None:
        assert len(set(made.score(made_batch(list(range(6)))).tolist())) > 1

    def test_constant_images_have_a_score(self, made: Gate) -> None:
        for level in (0, 128, 255):
            for size in ((1, 1), (28, 28)):
                self.check(made.score(made_batch(list(range(3)), size, level=level)), 3)

    def test_a_source_of_another_size_and_other_channels_is_welcome(self, made: Gate) -> None:
        self.check(made.score(made_batch(list(range(3)), (20, 20), 3, source=(9, 31, 1))), 3)
        self.check(made.score(made_batch(list(range(3)), (20, 20), 1, source=(40, 31, 3))), 3)

    def check(self, scores: Any, count: int) -> None:
        assert scores.shape == (count,) and scores.dtype == np.float32
        assert np.isfinite(scores).all()

    def test_a_score_does_not_depend_on_the_batch(self, made: Gate) -> None:
        for size in SIZES:
            for channels in (1, 3):
                together = made.score(made_batch(list(range(8)), size, channels))
                turned = made.score(made_batch(list(range(7, -1, -1)), size, channels))
                np.testing.assert_allclose(turned[::-1], together, rtol=0, atol=self.tolerance)
                for index in (0, 5):
                    alone = made.score(made_batch([index], size, channels))
                    np.testing.assert_allclose(alone[0], together[index], rtol=0, atol=self.tolerance)

    def test_scoring_is_deterministic_and_leaves_its_input_alone(self, made: Gate) -> None:
        batch = made_batch(list(range(6)))
        assert batch.sources is not None
        before = batch.images.copy(), batch.sources.copy()
        batch.images.flags.writeable = batch.sources.flags.writeable = False
        np.testing.assert_array_equal(made.score(batch), made.score(batch))
        np.testing.assert_array_equal(batch.images, before[0])
        np.testing.assert_array_equal(batch.sources, before[1])

    def test_an_image_that_is_not_contiguous_is_welcome(self, made: Gate) -> None:
        batch = made_batch(list(range(4)), (28, 20))
        strided = np.repeat(batch.images, 2, axis=2)[:, :, ::2]
        other = MadeBatch(strided, batch.sources, batch.labels, batch.classes, batch.prompts)
        np.testing.assert_array_equal(made.score(other), made.score(batch))
