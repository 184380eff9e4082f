"""The units of a plan: names and digests as they always were, found again by what they are made of."""

import pickle
import tracemalloc
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from pipeline.errors import RecipeError
from pipeline.plan import BranchPlan, StepPlan
from pipeline.planning.input.input_plan import InputPlan
from pipeline.planning.units import MAX_UNITS, check_count, units_of
from pipeline.shards.columns.layout import Layout
from pipeline.shards.files.discovery import Shard
from pipeline.shards.units import Units
from schemas.recipe import Recipe

STEP = StepPlan("flip", 1, {"probability": 0.5})
BRANCHES = (
    BranchPlan("original", (), 1, None, 32, None),
    BranchPlan("flipped", (STEP,), 2, "label == 'é'", 32, None),
    BranchPlan("each", (STEP,), 0, None, 32, None),
    BranchPlan("free", (STEP,), 0, None, 32, None),
)
RECIPE = {
    "version": 1,
    "seed": 7,
    "input": {"uri": "x"},
    "output": {"uri": "o", "rows_per_unit": 10, "keep_originals": True},
    "watermark": "none",
    "branches": [
        {"name": "flipped", "copies": 2, "operators": [{"flip": {}}]},
        {"name": "each", "per_class": 12, "operators": [{"gan_synth": {}}]},
        {"name": "free", "count": 23, "operators": [{"gan_synth": {}}]},
    ],
}
SHARDS = (("a/b.parquet", 25), ("a-b.parquet", 10), ("empty.parquet", 0), ('label=é/c "x".parquet', 7))
FIRST_OF_EACH = {
    "original-a-b-1f2aed-000000000": "08b9c4e0982d9d3152e8587e2439d37d4d0e870862423f0b956e27a68a6e5a17",
    "original-a-b-0090ce-000000000": "bfdca65a9b58daee0c3c1203fc94a25ef29ecfc4b2dbec1b3f215df35bb2b1cd",
    "flipped-a-b-1f2aed-000000020": "26d96326669313dc6a5d35bb18533512ebfb987b090a2c282ae711e978a443ce",
    "flipped-label-c-x-5d5796-000000000": "80f280828a277dd9f360fb1b2f597cf2a685760dd29704ccd0ad9f0d0951f263",
    "each-class-cat-0ffef3-000000010": "1f3da24c8a7c1b13cf8f99fa08fe9e828f98679e24e2fbb0e01addbb38260d42",
    "free-any-000000020": "937154873d56435c7c7d4633cd79c4301d0814055e1c8190f3a062a13ece0129",
}
"""Names and digests as commit afd6cf5 made them, one unit at a time."""


def found_input(text: bool, shards: tuple[tuple[str, int], ...] = SHARDS) -> InputPlan:
    schema = pa.schema([("image", pa.binary()), ("label", pa.string() if text else pa.int64())])
    layout = Layout("image", "bytes", "label", None, ("owl", "cat é", "dog"), schema, ("label",), "the recipe")
    found = tuple(
        Shard(f"/data/{path}", path, rows, 1000 + rows, f"{rows:064x}", (rows,), (("label", f"{rows:016x}"),))
        for path, rows in shards
    )
    return InputPlan(found, layout, row_identities={"a-b.parquet": [{"label": "cat é"}]})


def made(text: bool, limit: int | None = None) -> Units:
    recipe = Recipe.model_validate(RECIPE)
    return units_of(recipe, BRANCHES, found_input(text), ["unit/2", 7, {"ä": None}], limit)


@pytest.mark.parametrize(
    ("text", "limit", "count", "digest"),
    [
        (False, None, 19, "2bff9e87598cf8127c044d361cbe98041fe7377f2697187c0fe571655de9dac5"),
        (True, None, 19, "aa04b6992bff113620819164067acbdd90c135e4a17870e4b17a6cebfaf796ab"),
        (False, 28, 14, "a29753b9ed1794d55fe6149ae94a7b5276b0261b5ac9be57386a42e511d71f67"),
        (True, 1, 6, "4138322e2cceef94695dee0ecfbdf2e6c3a26268da1953a7196aeeddadc9e669"),
    ],
)
def test_plans_have_the_digests_of_earlier_versions(text: bool, limit: int | None, count: int, digest: str) -> None:
    units = made(text, limit)
    assert (len(units), units.plan_digest()) == (count, digest)


def test_units_have_the_names_and_digests_of_earlier_versions() -> None:
    units = {unit.name: unit.digest for unit in made(text=True)}
    assert {name: units[name] for name in FIRST_OF_EACH} == FIRST_OF_EACH
    labels = [(unit.label, unit.name) for unit in made(text=False) if unit.branch == "each"]
    assert labels[2:4] == [(1, "each-class0001-000000000"), (1, "each-class0001-000000010")]


@pytest.mark.parametrize("text", [False, True], ids=["whole numbers", "text"])
@pytest.mark.parametrize("limit", [None, 28])
def test_every_unit_is_found_by_what_it_is_made_of(text: bool, limit: int | None) -> None:
    units = made(text, limit)
    for index, unit in enumerate(units):
        place = (unit.branch, unit.shard.path if unit.shard else None, unit.label)
        assert units.index_of(*place, unit.first) == index
        assert units.index_of(*place, unit.first + 1) is None
        assert units.index_of(*place, unit.first + 10_000) is None
        assert units[index] == unit and units.name(index) == unit.name
    assert units.index_of("each", None, "no such class", 0) is None
    assert units.index_of("original", "empty.parquet", None, 0) is None


def test_totals_and_weights_are_sums_over_the_units() -> None:
    units = made(text=True)
    assert dict(units.totals) == {"original": (5, 42), "flipped": (5, 42), "each": (6, 36), "free": (3, 23)}
    weights = units.weights({branch.name: branch.copies for branch in BRANCHES})
    assert weights.tolist()[3:8] == [10, 7, 20, 20, 10] and weights.sum() == 42 + 84 + 36 + 23


def test_a_recipe_with_more_units_than_a_plan_holds_is_refused() -> None:
    recipe = Recipe.model_validate(RECIPE | {"output": {"uri": "o", "rows_per_unit": 1}})
    found = found_input(False, (("a.parquet", MAX_UNITS // 2),))
    check_count(recipe, BRANCHES[:2], found, None)
    with pytest.raises(RecipeError, match="2,000,023 units, and a plan has 2,000,000 at most"):
        check_count(recipe, [*BRANCHES[:2], BRANCHES[3]], found, None)


@pytest.mark.slow
@pytest.mark.parametrize("shards", [1, 2_000])
def test_a_plan_takes_some_bytes_a_unit(shards: int) -> None:
    recipe = Recipe.model_validate(RECIPE | {"output": {"uri": "o", "rows_per_unit": 1}})
    found = found_input(False, tuple((f"train-{index:05d}.parquet", 100_000 // shards) for index in range(shards)))
    tracemalloc.start()
    units = units_of(recipe, BRANCHES[:2], found, ["unit/2"], None)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(units) == 200_000
    assert held < 60 * 200_000 + 2_500 * shards and peak < 130 * 200_000 + 2_500 * shards
    assert len(pickle.dumps(units)) < 55 * 200_000 + 500 * shards


@pytest.mark.parametrize(
    ("row_bytes", "output", "rows"),
    [
        (20_000, {}, {"original": 10, "flipped": 10}),
        (20_000_000, {"max_file_bytes": 100_000_000}, {"original": 5, "flipped": 1}),  # PNG, two copies
        (2_000_000, {"max_file_bytes": 100_000_000}, {"original": 10, "flipped": 4}),
        (2_000_000, {"max_file_bytes": 20_000_000, "encoding": "jpeg"}, {"original": 10, "flipped": 5}),
        (2_000_000, {"max_file_bytes": 100_000_000, "size": 512}, {"original": 10, "flipped": 10}),
        (400_000_000, {}, {"original": 5, "flipped": 1}),  # 2 GiB
    ],
)
def test_units_of_large_images_have_fewer_rows(row_bytes: int, output: dict[str, Any], rows: dict[str, int]) -> None:
    recipe = Recipe.model_validate({**RECIPE, "output": {**RECIPE["output"], **output}})
    shard = replace(found_input(False).shards[0], bytes=25 * row_bytes)
    found = replace(found_input(False), shards=(shard,))
    units = units_of(recipe, BRANCHES[:2], found, [], None)
    for branch, size in rows.items():
        own = units.of_branch(branch)
        assert own.first.tolist() == list(range(0, 25, size))
        assert own.rows.sum() == 25
        assert own.rows.max() == size
        assert units.index_of(branch, shard.path, None, size) is not None
