"""The units of a plan: their order and digests."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError, RecipeError
from pipeline.messages import listed
from pipeline.plan import ORIGINAL, BranchPlan
from pipeline.planning.classes.class_checks import names_read
from pipeline.planning.input.input_plan import InputPlan
from pipeline.seeding import digests_of_lists
from pipeline.shards.columns.layout import Layout
from pipeline.shards.files.discovery import Shard
from pipeline.shards.units import Indexes, UnitGroup, Units
from schemas.recipe import MAX_ROWS_PER_UNIT, Recipe

MAX_UNITS = 2_000_000
PNG_GROWTH = 6
"""Bytes of a PNG for one of the same photograph as JPEG, about."""
CHANNELS = 3


def check_count(recipe: Recipe, branches: Sequence[BranchPlan], found: InputPlan, limit: int | None) -> None:
    """Raise RecipeError if the recipe has more units than a plan can hold."""
    total, size = 0, recipe.output.rows_per_unit
    for branch in branches:
        if branch.copies:
            total += sum(-(-rows // rows_of_unit(recipe, branch, at)) for at, rows in _rows_taken(found.shards, limit))
        else:
            labels, count = _asked_for(recipe, branch, found.layout, limit)
            total += len(labels) * -(-count // size)
    if total > MAX_UNITS:
        raise RecipeError(
            f"recipe.output.rows_per_unit = {size}: {total:,} units, and a plan has {MAX_UNITS:,} at most; raise it "
            f"(to {MAX_ROWS_PER_UNIT:,}), or ask for fewer images"
        )


def units_of(
    recipe: Recipe, branches: Iterable[BranchPlan], found: InputPlan, common: Sequence[Any], limit: int | None
) -> Units:
    """Return the units of a plan, by branch in the order of shards and rows, or of classes and indexes.

    Args:
        common: the result of `common_digest_inputs`.
    """
    groups = (group for branch in branches for group in _groups(recipe, branch, found, common, limit))
    return Units.of(_in_units(*group) for group in groups)


def rows_of_unit(recipe: Recipe, branch: BranchPlan, shard: Shard) -> int:
    """Return the rows of each unit of a branch with sources: those of the recipe, fewer where images are large.

    As many as come to about `output.max_file_bytes`, by the mean bytes of a row of the shard: a plan reads no images.
    """
    output = recipe.output
    image = shard.bytes / max(1, shard.rows)
    if branch.name != ORIGINAL:
        image *= PNG_GROWTH if output.encoding == "png" else 1
        image = image if output.size == "source" else min(image, CHANNELS * output.size**2)
    return max(1, min(output.rows_per_unit, int(output.max_file_bytes / (image * branch.copies))))


Group = tuple[UnitGroup, int, list[Any], list[Any], int]
"""A group of units, its rows, what their digests hold before and after the range of rows, and the rows of a unit."""


def _groups(
    recipe: Recipe, branch: BranchPlan, found: InputPlan, common: Sequence[Any], limit: int | None
) -> Iterator[Group]:
    identity = [*common, *branch.identity(), *names_read(branch.parts, found.layout)]
    if branch.copies == 0:
        labels, count = _asked_for(recipe, branch, found.layout, limit)
        for label in labels:
            yield UnitGroup(branch.name, None, label), count, [*identity, label], [], recipe.output.rows_per_unit
        return
    for shard, rows in _rows_taken(found.shards, limit):
        before = [*identity, branch.where, shard.path, shard.digest, shard.columns]
        after = found.row_identities.get(shard.path, [])
        yield UnitGroup(branch.name, shard), rows, before, after, rows_of_unit(recipe, branch, shard)


def _in_units(
    group: UnitGroup, total: int, before: list[Any], after: list[Any], size: int
) -> tuple[UnitGroup, Indexes, npt.NDArray[np.int32], bytearray]:
    """Cut `total` rows into units of `size` rows, the last one smaller; return their columns for `Units.of`."""
    first = np.arange(0, total, size, dtype=np.int64)
    rows = np.minimum(size, total - first).astype(np.int32)
    ranges = ((start, min(size, total - start)) for start in range(0, total, size))
    return group, first, rows, digests_of_lists(before, ranges, after)


def _rows_taken(shards: Sequence[Shard], limit: int | None) -> Iterator[tuple[Shard, int]]:
    """Yield each shard and the number of rows taken from it."""
    left = limit
    for shard in shards:
        rows = shard.rows if left is None else min(shard.rows, left)
        yield shard, rows
        left = None if left is None else left - rows


def _asked_for(
    recipe: Recipe, branch: BranchPlan, layout: Layout, limit: int | None
) -> tuple[list[int | str | None], int]:
    """Return the classes of a branch without sources, and the number of images of each."""
    asked = next(b for b in recipe.branches if b.name == branch.name)
    labels: list[int | str | None] = [None]
    if asked.per_class is not None:
        if not layout.classes:
            raise InputError(
                f"branch {branch.name!r}: per_class needs class names, and the input has none; say them with "
                "input.class_names"
            )
        unheld = [name for index, name in enumerate(layout.classes) if layout.table.value(index) is None]
        if unheld:
            raise InputError(
                f"branch {branch.name!r}: per_class makes images of {listed(unheld)}, and column "
                f"{layout.carried_label!r} ({layout.schema.field(layout.carried_label).type}) holds no such label; "
                "write it as whole numbers or texts"
            )
        text = layout.table.kind == "text"  # a further class must keep the units of the others
        labels = [*sorted(layout.classes)] if text else [*range(len(layout.classes))]  # the order `verify` knows
    count = asked.per_class or asked.count or 0
    return labels, count if limit is None else min(count, -(-limit // len(labels)))
