"""From the gates of a recipe to GatePlans: which branch each scores, with what parameters and files."""

import math

from pipeline.contracts import Gate
from pipeline.errors import RecipeError
from pipeline.messages import error_line
from pipeline.packages import Package
from pipeline.plan import GatePlan
from pipeline.planning.parts import find_files, read_part
from pipeline.registry import GATE
from pipeline.validation import nearest
from schemas.recipe import Branch, Recipe

GATES_KEY = "recipe.quality.gates"
NOT_IDENTITY = {"branches"}
"""Parameters that are in no unit digest: a gate that scores a further branch must not change the other units."""


def plan_gates(recipe: Recipe, base: str) -> dict[str, tuple[GatePlan, ...]]:
    """Return every branch's gates by the branch's name, in the order of the recipe.

    Raises:
        RecipeError: a gate or a parameter is unknown, a gate is there twice, or cannot score one of its branches.
        ModelError: a gate's model is not there.
    """
    found: dict[str, tuple[GatePlan, ...]] = {branch.name: () for branch in recipe.branches}
    seen: set[str] = set()
    for place, entry in enumerate(recipe.quality.gates):
        where = f"{GATES_KEY}[{place}]"
        gate, package = read_part(entry, where, GATE)
        if gate.name in seen:
            raise RecipeError(f"{where}: gate {gate.name!r} is there twice, and its scores go by its name; keep one")
        seen.add(gate.name)
        scored = _scored_branches(gate, recipe, where)
        plan = _resolved(gate, package, base, where)
        for branch in scored:
            _check_source(gate, branch, scored, where)
        found |= {branch.name: (*found[branch.name], plan) for branch in scored}
    return found


def _resolved(gate: Gate, package: Package | None, base: str, where: str) -> GatePlan:
    models, images = find_files(gate, base)
    params = gate.params.model_dump(mode="json", exclude=NOT_IDENTITY)
    bounds = None if package is None else _bounds(gate, where)
    return GatePlan(gate.name, gate.version, params, models, images, package, bounds)


def _bounds(gate: Gate, where: str) -> tuple[float | None, float | None]:
    """Return a gate's bounds as JSON can hold them: None where there is none."""
    try:
        low, high = (float(bound) for bound in gate.bounds)
    except Exception as error:  # code of others
        raise RecipeError(f"{where}: the bounds of {gate.name} cannot be read: {error_line(error)}") from error
    return (None if math.isinf(low) else low, None if math.isinf(high) else high)


def _scored_branches(gate: Gate, recipe: Recipe, where: str) -> list[Branch]:
    names = getattr(gate.params, "branches", None)
    known = [branch.name for branch in recipe.branches]
    for name in names or ():
        if name not in known:
            raise RecipeError(f"{where}.{gate.name}.branches: no branch is called {name!r}{nearest(name, known)}")
    return [branch for branch in recipe.branches if names is None or branch.name in names]


def _check_source(gate: Gate, branch: Branch, scored: list[Branch], where: str) -> None:
    if gate.requires_source and _without_sources(branch):
        others = ", ".join(other.name for other in scored if not _without_sources(other))
        remedy = f"say which it scores: {{{gate.name}: {{branches: [{others}]}}}}" if others else "leave it out"
        raise RecipeError(
            f"{where}: {gate.name} compares with the source row, and branch {branch.name!r} has none; {remedy}"
        )
    classes = gate.requirements().classes
    if classes is not None and classes.min_names and branch.count is not None:
        raise RecipeError(f"{where}: {gate.name} scores by class, and branch {branch.name!r} (`count`) has no classes")


def _without_sources(branch: Branch) -> bool:
    return branch.per_class is not None or branch.count is not None
