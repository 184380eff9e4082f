"""From a recipe to a plan: the branches, the units and their digests. Runs nothing; needs no torch and no Ray."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pipeline import watermark_key
from pipeline.errors import RecipeError
from pipeline.model_files.references import FileRef
from pipeline.plan import ORIGINAL, BranchPlan, Plan
from pipeline.planning.branches import resolve_branches
from pipeline.planning.classes.class_checks import check_branches
from pipeline.planning.classes.class_names import resolve_classes
from pipeline.planning.digest_inputs import common_digest_inputs
from pipeline.planning.input.first_rows import FirstRows
from pipeline.planning.input.image_checks import check_images
from pipeline.planning.input.input_plan import read_input, unlabelled_note, unsplit_note
from pipeline.planning.input.link_checks import check_links
from pipeline.planning.recipe_file import absolute
from pipeline.planning.units import check_count, units_of
from pipeline.planning.where.row_filter import RowFilter
from pipeline.shards.identity import with_column_digests
from pipeline.shards.links.linked_images import ImageLinks
from pipeline.working_dir import require_persistent
from schemas.recipe import Recipe


def plan_recipe(recipe: Recipe, base: str, limit: int | None = None, key: bytes | None = None) -> Plan:
    """Resolve a recipe that is to be run: `make_plan`, and its output must outlast this process.

    Args:
        key: the watermark key.

    Raises:
        JobError: as `make_plan`; the output is memory, or lies in Ray's copy of a submitted folder.
    """
    require_persistent(absolute(recipe.output.uri, base), "output.uri", "in the recipe or by --output")
    return make_plan(recipe, base, limit, None if key is None else watermark_key.key_id(key))


def make_plan(recipe: Recipe, base: str, limit: int | None = None, key_id: str | None = None) -> Plan:
    """Resolve a recipe against its input.

    Args:
        base: folder that relative paths in the recipe are relative to.
        limit: source rows to take at most, for a preview.
        key_id: public id of the watermark key; it is in the digests, since marked bytes depend on the key.

    Raises:
        JobError: one line that names what is wrong.
    """
    wheres = [branch.where for branch in recipe.branches if branch.per_class is None and branch.count is None]
    found = read_input(recipe.input, base, wheres)
    shards = found.shards
    layout, values = resolve_classes(found.layout, shards, recipe.input, base)
    found = replace(found, layout=layout, shards=with_column_digests(shards, layout))
    branches = resolve_branches(recipe, base, layout)
    branches = [replace(each, where=found.narrowed(each.where)) if each.copies else each for each in branches]
    first = FirstRows(shards, layout, recipe.input.max_pixels)
    check_links(first.rows, layout, ImageLinks.of(recipe.input, base))
    _check_where(branches, first)
    seen = check_images(recipe, _models(branches), first)
    notes = check_branches(recipe.branches, {branch.name: branch for branch in branches}, shards, layout, values)
    common = common_digest_inputs(recipe, layout, key_id)
    check_count(recipe, branches, found, limit)
    units = units_of(recipe, branches, found, common, limit)
    return Plan(
        recipe=recipe,
        base=base,
        output=absolute(recipe.output.uri, base),
        layout=layout,
        shards=found.shards,
        branches=tuple(branches),
        units=units,
        digest=units.plan_digest(),
        limit=limit,
        key_id=key_id,
        labels=values,
        notes=(*unlabelled_note(found, recipe.input), *unsplit_note(found, recipe.input), *seen, *notes),
        skipped=found.skipped,
        splits=found.splits,
    )


def _check_where(branches: list[BranchPlan], first: FirstRows) -> None:
    chosen = {branch.name: RowFilter(branch.where, first.layout) for branch in branches if branch.where is not None}
    for name, selection in chosen.items():
        try:
            selection.check()
            selection.check_kinds()
            if first.rows:
                selection.try_on(first.rows)
        except RecipeError as error:
            raise RecipeError(f"branch {name!r}: {error}") from None


def check_named_images(plan: Plan) -> None:
    """Check the first linked images. A plan opens no links, so this is called when the run begins.

    Raises:
        JobError: as `make_plan` for images within rows.
    """
    assert plan.layout is not None
    first = FirstRows(plan.shards, plan.layout, plan.recipe.input.max_pixels)
    if any(row.link is not None for row in first.rows):
        links = ImageLinks.of(plan.recipe.input, plan.base)
        check_images(plan.recipe, _models(plan.branches), replace(first, links=links))


def _models(branches: Sequence[BranchPlan]) -> list[list[Mapping[str, FileRef]]]:
    """Return the models of every step of every branch of the recipe."""
    return [[step.models for step in branch.steps] for branch in branches if branch.name != ORIGINAL]
