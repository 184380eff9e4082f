"""The units of a plan: their order, names and digests."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.errors import InputError, RecipeError
from pipeline.messages import listed
from pipeline.plan import BranchPlan, Unit
from pipeline.planning.classes.class_checks import names_read
from pipeline.planning.input.input_plan import InputPlan
from pipeline.seeding import digest
from pipeline.shards.columns.layout import Layout
from pipeline.shards.files.discovery import Shard
from schemas.recipe import MAX_ROWS_PER_UNIT, Recipe

MAX_UNITS = 2_000_000


def check_count(recipe: Recipe, branches: Sequence[BranchPlan], found: InputPlan, limit: int | None) -> None:
    """Raise RecipeError if the recipe has more units than a plan can hold."""
    total, size = 0, recipe.output.rows_per_unit
    for branch in branches:
        if branch.copies:
            total += sum(-(-rows // size) for _, rows in _rows_taken(found.shards, limit))
        else:
            labels, count = _asked_for(recipe, branch, found.layout, limit)
            total += len(labels) * -(-count // size)
    if total > MAX_UNITS:
        raise RecipeError(
            f"recipe.output.rows_per_unit = {size}: {total:,} units, and a plan has {MAX_UNITS:,} at most; raise it "
            f"(to {MAX_ROWS_PER_UNIT:,}), or ask for fewer images"
        )


def units_of(
    recipe: Recipe, branch: BranchPlan, found: InputPlan, common: list[Any], limit: int | None
) -> Iterator[Unit]:
    """Yield the units of a branch in the order of shards and rows, or of classes and indexes.

    Args:
        common: the result of `common_digest_inputs`.
    """
    identity = [*common, *branch.identity(), *names_read(branch.parts, found.layout)]
    if branch.copies == 0:
        yield from _synthetic_units(recipe, branch, found.layout, identity, limit)
        return
    for shard, rows_in in _rows_taken(found.shards, limit):
        more = found.row_identities.get(shard.path, [])
        for first in range(0, rows_in, recipe.output.rows_per_unit):
            rows = min(recipe.output.rows_per_unit, rows_in - first)
            name = f"{branch.name}-{_slug(shard.path)}-{first:09d}"
            made = digest([*identity, branch.where, shard.path, shard.digest, shard.columns, first, rows, *more])
            yield Unit(name, made, branch.name, first, rows, shard)


def _rows_taken(shards: Sequence[Shard], limit: int | None) -> Iterator[tuple[Shard, int]]:
    """Yield each shard and the number of rows taken from it."""
    left = limit
    for shard in shards:
        rows = shard.rows if left is None else min(shard.rows, left)
        yield shard, rows
        left = None if left is None else left - rows


def _synthetic_units(
    recipe: Recipe, branch: BranchPlan, layout: Layout, identity: list[Any], limit: int | None
) -> Iterator[Unit]:
    labels, count = _asked_for(recipe, branch, layout, limit)
    for label in labels:
        for first in range(0, count, recipe.output.rows_per_unit):
            rows = min(recipe.output.rows_per_unit, count - first)
            name = f"{branch.name}-{_class_slug(label)}-{first:09d}"
            yield Unit(name, digest([*identity, label, first, rows]), branch.name, first, rows, None, label)


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


def _class_slug(label: int | str | None) -> str:
    if label is None:
        return "any"
    return f"class{label:04d}" if isinstance(label, int) else f"class-{_slug(label)}"


def _slug(path: str) -> str:
    """Return a shard's path as part of a file name; the hash keeps a/b.parquet and a-b.parquet apart."""
    stem = re.sub(r"[^A-Za-z0-9_.]+", "-", path.removesuffix(".parquet")).strip("-.")[-80:]
    return f"{stem}-{digest(path)[:6]}"
