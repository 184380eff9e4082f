"""The gates of a recipe, resolved: which branch each judges, with what parameters and files."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.contracts import Gate
from pipeline.errors import RecipeError
from pipeline.models.references import FileRef, resolve_images, resolve_model
from pipeline.registry import gate_class
from pipeline.shards.layout import Layout
from pipeline.validation import nearest, parse
from schemas.recipe import Branch, Recipe

GATES_KEY = "recipe.quality.gates"
NOT_IDENTITY = {"branches"}
"""Parameters that say where a gate judges and not how: a further branch must keep the units of the others."""


@dataclass(frozen=True)
class GatePlan:
    """One gate of a branch, with everything resolved."""

    gate: str
    version: int
    params: Mapping[str, Any]
    models: Mapping[str, FileRef] = field(default_factory=dict)
    images: Mapping[str, tuple[FileRef, ...]] = field(default_factory=dict)

    def identity(self) -> list[Any]:
        """Return what this gate computes: parameters, and files by content, wherever they lie."""
        files = {name: model.sha256 for name, model in self.models.items()}
        sets = {name: [image.sha256 for image in images] for name, images in self.images.items()}
        return [self.gate, self.version, {**self.params, **files, **sets}]

    def make(self) -> Gate:
        """Return the gate, not loaded yet."""
        found = gate_class(self.gate)
        return found(found.Params.model_validate(self.params))


def plan_gates(recipe: Recipe, base: str, layout: Layout) -> dict[str, tuple[GatePlan, ...]]:
    """Return every branch's gates by the branch's name, in the order of the recipe.

    Raises:
        RecipeError: a gate or a parameter is unknown, a gate is there twice, or cannot judge one of its branches.
        ModelError: a gate's model is not there.
    """
    found: dict[str, tuple[GatePlan, ...]] = {branch.name: () for branch in recipe.branches}
    seen: set[str] = set()
    for place, entry in enumerate(recipe.quality.gates):
        where = f"{GATES_KEY}[{place}]"
        gate = _gate(entry, where)
        if gate.name in seen:
            raise RecipeError(f"{where}: gate {gate.name!r} is there twice, and its scores go by its name; keep one")
        seen.add(gate.name)
        judged = _judged(gate, recipe, where)
        _check_classes(gate, layout, where)
        for branch in judged:
            _check_source(gate, branch, judged, where)
        plan = _resolved(gate, base)
        found |= {branch.name: (*found[branch.name], plan) for branch in judged}
    return found


def _gate(entry: Mapping[str, Any], where: str) -> Gate:
    if len(entry) != 1:
        raise RecipeError(f"{where}: write one gate an entry, as `- {{name: {{...}}}}`; found {sorted(entry)}")
    ((name, params),) = entry.items()
    try:
        found = gate_class(name)
    except RecipeError as error:
        raise RecipeError(f"{where}: {error}") from None
    return found(parse(found.Params, {} if params is None else params, f"{where}.{name}"))


def _resolved(gate: Gate, base: str) -> GatePlan:
    needs = gate.needs()
    return GatePlan(
        gate=gate.name,
        version=gate.version,
        params=gate.params.model_dump(mode="json", exclude=NOT_IDENTITY),
        models={key: resolve_model(reference, base) for key, reference in needs.models.items()},
        images={key: resolve_images(reference, base) for key, reference in needs.images.items()},
    )


def _judged(gate: Gate, recipe: Recipe, where: str) -> list[Branch]:
    names = getattr(gate.params, "branches", None)
    known = [branch.name for branch in recipe.branches]
    for name in names or ():
        if name not in known:
            raise RecipeError(f"{where}.{gate.name}.branches: no branch is called {name!r}{nearest(name, known)}")
    return [branch for branch in recipe.branches if names is None or branch.name in names]


def _check_classes(gate: Gate, layout: Layout, where: str) -> None:
    have = len(layout.classes or ())
    if have < gate.least_classes:
        raise RecipeError(
            f"{where}: {gate.name} judges by class names: it needs {gate.least_classes} at least, and the input's "
            f"schema has {have} (ClassLabel)"
        )


def _check_source(gate: Gate, branch: Branch, judged: list[Branch], where: str) -> None:
    if gate.needs_source and _without_sources(branch):
        others = ", ".join(other.name for other in judged if not _without_sources(other))
        remedy = f"say which it judges: {{{gate.name}: {{branches: [{others}]}}}}" if others else "leave it out"
        raise RecipeError(
            f"{where}: {gate.name} compares with the source row, and branch {branch.name!r} has none; {remedy}"
        )
    if gate.least_classes and branch.count is not None:
        raise RecipeError(f"{where}: {gate.name} judges by class, and branch {branch.name!r} (`count`) has no classes")


def _without_sources(branch: Branch) -> bool:
    return branch.per_class is not None or branch.count is not None
