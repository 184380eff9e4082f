"""Conformance tests of an operator, as a class to subclass.

The test of an operator starts with three lines:

    class TestFlipConformance(OperatorConformance):
        operator = Flip
        params: ClassVar = {"probability": 0.7}

An operator that needs models or reference images also overrides `assets`.
"""

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from palimpsest.testing.imports import imported_alone
from pipeline.contracts import Applied, Assets, Draws, ImageBatch, Operator, Partner, PartnerRow
from pipeline.errors import RecipeError
from pipeline.noise import Noise
from pipeline.registry import declaration_fault
from pipeline.requirements import SOURCE_TYPES
from pipeline.seeding import canonical_json, step_seed
from pipeline.validation import parse

SIZES = ((28, 28), (1, 1), (7, 33), (64, 48))
CLASSES = ("shirt", "shoe", "bag")


def seed_of(index: int, run: int = 0) -> int:
    """The step seed of the `index`-th sample of a made-up run."""
    return step_seed(f"{run:08x}{index:024x}", 0)


def make_batch(
    indexes: list[int],
    size: tuple[int, int] | None = (28, 28),
    channels: int = 1,
    run: int = 0,
    level: int | None = None,
) -> ImageBatch:
    """Samples whose seed, label and pixels depend on their index alone.

    size None: no pixels, as for synthesis. level: constant images of that grey level.
    """
    images = None
    if size is not None:
        shape = (*size, channels)
        images = np.stack([np.random.default_rng(index).integers(0, 256, shape, dtype=np.uint8) for index in indexes])
        if level is not None:
            images[:] = level
    labels = np.array([index % len(CLASSES) for index in indexes], dtype=np.int64)
    return ImageBatch(images=images, seeds=[seed_of(index, run) for index in indexes], labels=labels, classes=CLASSES)


def partner_of(index: int, role: str, channels: int) -> PartnerRow:
    """The partner row of the `index`-th sample of a made-up run: of another class, in many sizes."""
    size = SIZES[index % len(SIZES)]
    pixels = np.random.default_rng(1000 + index).integers(0, 256, (*size, channels), dtype=np.uint8)
    return PartnerRow(
        Partner(role, "/data/a.parquet", f"{index:064x}", index + 1, None), pixels, (index + 1) % len(CLASSES)
    )


def act(made: Operator, batch: ImageBatch, draws: Draws | None = None) -> Applied:
    """Draw, where nothing is drawn yet, and apply."""
    return made.apply(batch, made.draw(batch) if draws is None else draws, Noise(batch.seeds))


def assert_near(found: np.ndarray, wanted: np.ndarray, tolerance: int) -> None:
    """Every pixel within `tolerance` grey levels."""
    assert found.shape == wanted.shape
    distance = np.abs(found.astype(int) - wanted.astype(int))
    assert distance.max(initial=0) <= tolerance, f"{distance.max()} grey levels apart, {tolerance} allowed"


class OperatorConformance:
    """Subclass it, name the operator and parameters that make it tiny.

    tolerance: grey levels between an image made alone and the same one made in a batch of eight. A network may add
    in another order there; operators without one must give equal bytes.
    """

    operator: ClassVar[type[Operator]]
    params: ClassVar[dict[str, Any]] = {}
    tolerance: ClassVar[int] = 0
    channels: ClassVar[tuple[int, ...]] = (1, 3)
    sizes: ClassVar[tuple[tuple[int, int], ...]] = SIZES
    draws_vary: ClassVar[bool] = True  # False where these parameters leave nothing to chance

    def assets(self, folder: Path) -> Assets:
        """Return what `load` gets; override it where `requirements()` asks for something. `folder` is empty."""
        return Assets()

    @pytest.fixture
    def made(self, tmp_path: Path) -> Operator:
        made = self.make()
        made.load("cpu", self.assets(tmp_path))
        return made

    def make(self) -> Operator:
        return self.operator(self.operator.Params(**self.params))

    def batch(
        self, indexes: list[int], size: tuple[int, int] = (28, 28), channels: int = 1, **other: Any
    ) -> ImageBatch:
        batch = make_batch(indexes, None if self.operator.generative else size, channels, **other)
        role = self.make().partner
        if role is None:
            return batch
        return replace(batch, partners=[partner_of(index, role, channels) for index in indexes])

    # ---- declared ----

    def test_declares_what_it_is(self) -> None:
        assert (self.operator.__doc__ or "").strip() and self.operator.__doc__ != Operator.__doc__
        assert declaration_fault(self.operator) is None
        assert self.operator.source.strip()
        assert self.operator.digital_source_type in SOURCE_TYPES
        assert self.operator.micro_batch >= 1 and self.operator.gpus >= 0
        assert self.operator.cpu_s_per_megapixel > 0 and self.operator.gpu_s_per_megapixel > 0

    def test_every_parameter_is_described(self) -> None:
        bare = [name for name, field in self.operator.Params.model_fields.items() if not field.description]
        assert not bare

    def test_parameters_are_closed_and_frozen(self) -> None:
        params = self.operator.Params(**self.params)
        with pytest.raises(ValueError, match="frozen"):
            setattr(params, next(iter(self.operator.Params.model_fields), "any"), None)

    def test_an_unknown_parameter_names_the_nearest_known_one(self) -> None:
        known = max(self.operator.Params.model_fields, key=len, default="")
        if not known:
            return
        with pytest.raises(RecipeError, match=f"{known}x: unknown key.*did you mean '{known}'"):
            parse(self.operator.Params, {**self.params, f"{known}x": 1}, self.operator.name)

    def test_resolved_parameters_parse_to_themselves(self) -> None:
        params = self.operator.Params(**self.params)
        assert self.operator.Params(**json.loads(canonical_json(params.model_dump(mode="json")))) == params

    def test_import_and_construction_are_light(self) -> None:
        found = imported_alone(self.operator, self.params)
        assert found["heavy"] == []
        assert found["seconds"] < 0.05

    def test_pickles_before_load(self, tmp_path: Path) -> None:
        copy = pickle.loads(pickle.dumps(self.make()))
        assets = self.assets(tmp_path)
        copy.load("cpu", assets)
        original = self.make()
        original.load("cpu", assets)
        batch = self.batch([0, 1, 2])
        assert copy.params == original.params
        assert copy.draw(batch) == original.draw(batch)

    def test_assets_are_what_it_requires(self, tmp_path: Path) -> None:
        requirements, assets = self.make().requirements(), self.assets(tmp_path)
        assert set(requirements.models) == set(assets.models) and set(requirements.images) == set(assets.images)

    # ---- draw ----

    def test_draw_is_pure(self, made: Operator) -> None:
        batch = self.batch(list(range(8)))
        assert made.draw(batch) == made.draw(batch)

    def test_a_sample_draws_the_same_in_any_batch(self, made: Operator) -> None:
        together = made.draw(self.batch(list(range(8))))
        turned = made.draw(self.batch(list(range(7, -1, -1))))
        for index in range(8):
            alone = made.draw(self.batch([index]))
            assert alone.row(0) == together.row(index) == turned.row(7 - index)
            if alone.partners is not None and together.partners is not None and turned.partners is not None:
                assert alone.partners[0] == together.partners[index] == turned.partners[7 - index]

    def test_draws_are_json_one_value_a_sample(self, made: Operator) -> None:
        draws = made.draw(self.batch(list(range(8))))
        for values in draws.columns.values():
            assert len(values) == 8
        assert draws.partners is None or len(draws.partners) == 8
        for index in range(8):
            assert json.loads(canonical_json(draws.row(index))) == draws.row(index)

    def test_other_seeds_draw_other_values(self, made: Operator) -> None:
        if not self.draws_vary:
            return
        indexes = list(range(64))
        one, other = (made.draw(self.batch(indexes, run=run)) for run in (0, 1))
        assert one.columns != other.columns
        assert len({canonical_json(one.row(index)) for index in indexes}) > 1

    def test_draws_from_the_lineage_make_the_same_images(self, made: Operator) -> None:
        batch = self.batch(list(range(8)))
        draws = made.draw(batch)
        rows = [json.loads(canonical_json(draws.row(index))) for index in range(8)]
        read = Draws({name: [row[name] for row in rows] for name in draws.columns}, draws.partners)
        np.testing.assert_array_equal(act(made, batch, read).images, act(made, batch, draws).images)

    # ---- apply ----

    def test_apply_keeps_rows_and_type_for_every_size(self, made: Operator) -> None:
        for size in self.sizes:
            for channels in self.channels:
                applied = act(made, self.batch(list(range(8)), size, channels))
                self.check(applied, 8)

    def test_constant_images_pass(self, made: Operator) -> None:
        for level in (0, 128, 255):
            for size in ((1, 1), (28, 28)):
                for channels in self.channels:
                    self.check(act(made, self.batch(list(range(8)), size, channels, level=level)), 8)

    def check(self, applied: Applied, count: int) -> None:
        images = applied.images
        assert images.ndim == 4 and len(images) == count and images.shape[3] in (1, 3)
        assert images.dtype == np.uint8 and images.flags.c_contiguous
        assert applied.labels is None or (applied.labels.shape == (count,) and applied.labels.dtype == np.int64)
        if self.operator.changes_labels and not self.operator.generative:
            assert applied.labels is None or applied.soft_labels is not None
        else:
            assert applied.soft_labels is None and (applied.labels is None or self.operator.generative)
        if applied.soft_labels is not None:
            np.testing.assert_allclose(applied.soft_labels.sum(axis=1), 1, atol=1e-5)
        assert {*applied.rejected, *applied.errors} <= set(range(count))

    def test_apply_is_deterministic(self, made: Operator) -> None:
        batch = self.batch(list(range(8)), channels=self.channels[-1])
        np.testing.assert_array_equal(act(made, batch).images, act(made, batch).images)

    def test_an_image_does_not_depend_on_its_batch(self, made: Operator) -> None:
        for size in self.sizes:
            for channels in self.channels:
                together = act(made, self.batch(list(range(8)), size, channels)).images
                turned = act(made, self.batch(list(range(7, -1, -1)), size, channels)).images
                assert_near(turned[::-1], together, self.tolerance)
                for index in (0, 5):
                    assert_near(
                        act(made, self.batch([index], size, channels)).images[0], together[index], self.tolerance
                    )

    def test_the_input_is_left_alone(self, made: Operator) -> None:
        batch = self.batch(list(range(8)), channels=self.channels[-1])
        if batch.images is None:
            return
        before = batch.images.copy()
        batch.images.flags.writeable = False
        images = act(made, batch).images
        np.testing.assert_array_equal(batch.images, before)
        assert not np.shares_memory(images, batch.images)
        images[:] = 0  # the runner may write into what it is given

    def test_an_image_that_is_not_contiguous_is_welcome(self, made: Operator) -> None:
        batch = self.batch(list(range(4)), (28, 20), self.channels[-1])
        if batch.images is None:
            return
        strided = np.repeat(batch.images, 2, axis=2)[:, :, ::2]
        other = replace(batch, images=strided)
        np.testing.assert_array_equal(act(made, other).images, act(made, batch).images)
