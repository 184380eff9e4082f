"""From the branches of a recipe to BranchPlans: operators, files, gates, resources."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pipeline.contracts import Operator
from pipeline.errors import RecipeError
from pipeline.plan import ORIGINAL, BranchPlan, StepPlan
from pipeline.planning.gate_plan import plan_gates
from pipeline.planning.parts import check_columns, find_files, read_part
from pipeline.registry import OPERATOR
from pipeline.requirements import SOURCE_TYPES
from pipeline.shards.columns.layout import Layout
from pipeline.validation import nearest
from schemas.recipe import Branch, Recipe, Resources


def resolve_branches(recipe: Recipe, base: str, layout: Layout) -> list[BranchPlan]:
    """Return the branches of a recipe with their gates; that of the originals, if they are kept, comes first.

    Raises:
        JobError: a branch, an operator or a gate is wrong, or a file that it needs is not there.
    """
    branches = [_branch(recipe, index, branch, base, layout) for index, branch in enumerate(recipe.branches)]
    _check_names(recipe)
    branches = _gated(branches, recipe, base)
    return [_originals(recipe), *branches] if recipe.output.keep_originals else branches


def _check_names(recipe: Recipe) -> None:
    names = [branch.name for branch in recipe.branches]
    if ORIGINAL in names:
        raise RecipeError(f"recipe.branches: the name {ORIGINAL!r} belongs to `output.keep_originals`; choose another")
    for name in names:
        if names.count(name) > 1:
            raise RecipeError(f"recipe.branches: two branches are called {name!r}")
    known = [*names, *(name for branch in recipe.branches for step in branch.operators for name in step)]
    for name in recipe.resources:
        if name not in [*known, ORIGINAL]:
            raise RecipeError(f"recipe.resources.{name}: no branch or operator of this recipe{nearest(name, known)}")


def _branch(recipe: Recipe, index: int, branch: Branch, base: str, layout: Layout) -> BranchPlan:
    where = f"recipe.branches[{index}]"
    if sum(value is not None for value in (branch.copies, branch.per_class, branch.count)) > 1:
        raise RecipeError(f"{where}: give one of copies, per_class and count, not several")
    steps = tuple(_step(step, f"{where}.operators[{place}]", base) for place, step in enumerate(branch.operators))
    operators = [step.make() for step in steps]
    synthetic = branch.per_class is not None or branch.count is not None
    if synthetic and branch.where is not None:
        raise RecipeError(f"{where}.where: it chooses source rows, and a branch of per_class or count has none")
    for place, operator in enumerate(operators):
        if operator.generative != (synthetic and place == 0):
            need = "per_class or count, as the first operator" if operator.generative else "copies of source rows"
            raise RecipeError(f"{where}.operators[{place}]: {operator.name} makes images from {need}")
        if operator.partner is not None and synthetic:
            raise RecipeError(
                f"{where}.operators[{place}]: {operator.name} mixes each image with another source row, and a branch "
                "of per_class or count has none"
            )
        check_columns(operator, None if synthetic else layout, f"{where}.operators[{place}].{operator.name}")
    types = [operator.digital_source_type for operator in operators]
    return BranchPlan(
        name=branch.name,
        steps=steps,
        copies=0 if synthetic else branch.copies or 1,
        where=branch.where,
        micro_batch=recipe.numerics.micro_batch or min(operator.micro_batch for operator in operators),
        digital_source_type=max(types, key=SOURCE_TYPES.index),
        **resources_of(recipe, branch.name, steps, operators),
    )


def _gated(branches: list[BranchPlan], recipe: Recipe, base: str) -> list[BranchPlan]:
    gates, attempts = plan_gates(recipe, base), recipe.quality.max_attempts
    return [replace(each, gates=gates[each.name], attempts=attempts) if gates[each.name] else each for each in branches]


def _step(entry: dict[str, Any], where: str, base: str) -> StepPlan:
    operator, package = read_part(entry, where, OPERATOR)
    models, images = find_files(operator, base)
    (name,) = entry
    params = operator.params.model_dump(mode="json")
    return StepPlan(name, operator.version, params, models, images, package, operator.changes_labels)


def resources_of(recipe: Recipe, branch: str, steps: Sequence[StepPlan], operators: list[Operator]) -> dict[str, Any]:
    """Return `gpus`, `cpus` and `actors`: sums over the operators; an entry for the branch itself takes precedence."""
    own = [recipe.resources.get(step.operator, Resources()) for step in steps]
    gpus = sum(operator.gpus if r.gpus is None else r.gpus for operator, r in zip(operators, own, strict=True))
    actors = [r.actors for r in own if r.actors is not None]
    result = {"gpus": gpus, "cpus": max(r.cpus for r in own), "actors": min(actors) if actors else None}
    if branch in recipe.resources:
        named = recipe.resources[branch]
        result |= {key: value for key, value in named.model_dump(exclude_unset=True).items() if value is not None}
    return result


def _originals(recipe: Recipe) -> BranchPlan:
    named = recipe.resources.get(ORIGINAL, Resources())
    return BranchPlan(
        name=ORIGINAL,
        steps=(),
        copies=1,
        where=None,
        micro_batch=32,
        digital_source_type=None,
        cpus=named.cpus,
        actors=named.actors,
    )
