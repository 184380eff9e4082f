"""Recipe -> Plan: which units there are, what each computes, and its digest. Pure; no torch, no Ray."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.contracts import Operator
from pipeline.errors import InputError, RecipeError
from pipeline.model_files.references import FileRef
from pipeline.planning.classes.class_checks import check_branches, names_read
from pipeline.planning.classes.class_names import resolve_classes
from pipeline.planning.gates import GatePlan, plan_gates
from pipeline.planning.identity import common_identity
from pipeline.planning.input.first_images import check_images
from pipeline.planning.input.first_rows import FirstRows
from pipeline.planning.input.input_plan import InputPlan, read_input, unlabelled_note, unsplit_note
from pipeline.planning.input.link_check import check_links
from pipeline.planning.parts import check_columns, content, find_files, read_part
from pipeline.planning.recipe_file import absolute
from pipeline.planning.where.selection import Selection
from pipeline.registry import operator_class
from pipeline.seeding import digest
from pipeline.shards.columns.label_values import LabelValues
from pipeline.shards.columns.layout import Layout
from pipeline.shards.files.listing import Passed
from pipeline.shards.files.locate import Shard
from pipeline.shards.identity import identified
from pipeline.shards.links.linked_images import ImageLinks
from pipeline.texts import listed
from pipeline.validation import nearest, parse
from schemas.recipe import MOST_ROWS_PER_UNIT, Branch, Recipe, Resources

ORIGINAL = "original"
"""The branch that `keep_originals` adds."""

MOST_UNITS = 2_000_000

SOURCE_TYPES = ("algorithmicallyEnhanced", "compositeWithTrainedAlgorithmicMedia", "trainedAlgorithmicMedia")
"""IPTC terms, weakest first; a chain is what its strongest step is."""


@dataclass(frozen=True)
class StepPlan:
    """One operator of a chain, with everything resolved."""

    operator: str
    version: int
    params: Mapping[str, Any]
    models: Mapping[str, FileRef] = field(default_factory=dict)
    images: Mapping[str, tuple[FileRef, ...]] = field(default_factory=dict)

    def identity(self) -> list[Any]:
        """Return what this step computes, wherever its files lie."""
        return [self.operator, self.version, content(self.params, self.models, self.images)]

    def make(self) -> Operator:
        """Return the operator, not loaded yet."""
        found = operator_class(self.operator)
        return found(parse(found.Params, self.params, self.operator))


@dataclass(frozen=True)
class BranchPlan:
    """One branch, resolved. `copies` is 0 for a branch without sources."""

    name: str
    steps: tuple[StepPlan, ...]
    copies: int
    where: str | None
    micro_batch: int
    digital_source_type: str | None
    gpus: float = 0.0
    cpus: float = 1.0
    actors: int | None = None  # None: as many as the machine has room for
    gates: tuple[GatePlan, ...] = ()
    attempts: int = 1  # at an image, until no gate refuses it

    @property
    def operators(self) -> list[type[Operator]]:
        return [operator_class(step.operator) for step in self.steps]

    @property
    def parts(self) -> tuple[StepPlan | GatePlan, ...]:
        return (*self.steps, *self.gates)

    def identity(self) -> list[Any]:
        """Return what this branch computes of a row, or of an index."""
        made = [self.name, [step.identity() for step in self.steps], self.micro_batch, self.copies]
        if not self.gates:
            return made
        return [*made, {"gates": [gate.identity() for gate in self.gates], "attempts": self.attempts}]


@dataclass(frozen=True)
class Unit:
    """The unit of work, retry, commit and determinism: a row range of one shard, or an index range of a class."""

    name: str  # also its file name: data/<name>.parquet
    digest: str
    branch: str
    first: int
    rows: int
    shard: Shard | None = None
    label: int | str | None = None


@dataclass(frozen=True)
class Plan:
    """Everything `run` needs to know, decided before anything runs. Picklable."""

    recipe: Recipe
    base: str
    output: str
    layout: Layout | None
    shards: tuple[Shard, ...]
    branches: tuple[BranchPlan, ...]
    units: tuple[Unit, ...]
    digest: str
    limit: int | None = None
    key_id: str | None = None  # of the watermark key; the key itself is nowhere in a plan
    labels: LabelValues = field(default_factory=LabelValues)  # what the label column holds
    notes: tuple[str, ...] = ()  # what the reader should know before anything runs, a line each
    passed: Passed = field(default_factory=Passed)  # names of the input that were passed over
    splits: Mapping[str | None, int] = field(default_factory=dict)  # rows of the input by split; None: in none

    @property
    def classes(self) -> tuple[str, ...]:
        return (self.layout.classes or ()) if self.layout else ()

    def images(self, branch: BranchPlan) -> int:
        """Return how many images a branch makes at most (before `where`)."""
        return sum(unit.rows for unit in self.units if unit.branch == branch.name) * max(1, branch.copies)


def make_plan(recipe: Recipe, base: str, limit: int | None = None, key_id: str | None = None) -> Plan:
    """Resolve a recipe against its input.

    Args:
        base: folder that relative paths in the recipe are relative to.
        limit: source rows to take at most, for a preview.
        key_id: public name of the watermark key: marked bytes depend on the key, so digests do, too.

    Raises:
        JobError: one line that names what is wrong.
    """
    wheres = [branch.where for branch in recipe.branches if branch.per_class is None and branch.count is None]
    found = read_input(recipe.input, base, wheres)
    shards = found.shards
    layout, values = resolve_classes(found.layout, shards, recipe.input, base)
    found = replace(found, layout=layout, shards=identified(shards, layout))
    branches = [_branch(recipe, index, branch, base, layout) for index, branch in enumerate(recipe.branches)]
    _check_names(recipe)
    branches = _gated(branches, recipe, base, layout)
    if recipe.output.keep_originals:
        branches.insert(0, _originals(recipe))
    branches = [replace(each, where=found.narrowed(each.where)) if each.copies else each for each in branches]
    first = FirstRows(shards, layout, recipe.input.max_pixels)
    check_links(first.rows, layout, ImageLinks.of(recipe.input, base))
    _check_where(branches, first)
    seen = check_images(recipe, _models(branches), first)
    notes = check_branches(recipe.branches, {branch.name: branch for branch in branches}, shards, layout, values)
    common = common_identity(recipe, layout, key_id)
    _check_count(recipe, branches, found, limit)
    units = tuple(unit for branch in branches for unit in _units(recipe, branch, found, common, limit))
    return Plan(
        recipe=recipe,
        base=base,
        output=absolute(recipe.output.uri, base),
        layout=layout,
        shards=found.shards,
        branches=tuple(branches),
        units=units,
        digest=digest([[unit.name, unit.digest] for unit in units]),
        limit=limit,
        key_id=key_id,
        labels=values,
        notes=(*unlabelled_note(found, recipe.input), *unsplit_note(found, recipe.input), *seen, *notes),
        passed=found.passed,
        splits=found.splits,
    )


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
        **_resources(recipe, branch.name, operators),
    )


def _gated(branches: list[BranchPlan], recipe: Recipe, base: str, layout: Layout) -> list[BranchPlan]:
    gates, attempts = plan_gates(recipe, base, layout), recipe.quality.max_attempts
    return [replace(each, gates=gates[each.name], attempts=attempts) if gates[each.name] else each for each in branches]


def _step(entry: dict[str, Any], where: str, base: str) -> StepPlan:
    operator = read_part(entry, where, "operator", operator_class)
    models, images = find_files(operator, base)
    (name,) = entry
    return StepPlan(name, operator.version, operator.params.model_dump(mode="json"), models, images)


def _resources(recipe: Recipe, branch: str, operators: list[Operator]) -> dict[str, Any]:
    """Sum a chain's shares; what is said for the branch by name counts more."""
    own = [recipe.resources.get(operator.name, Resources()) for operator in operators]
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


def _check_where(branches: list[BranchPlan], first: FirstRows) -> None:
    chosen = {branch.name: Selection(branch.where, first.layout) for branch in branches if branch.where is not None}
    for name, selection in chosen.items():
        try:
            selection.check()
            selection.check_kinds()
            if first.rows:
                selection.try_on(first.rows)
        except RecipeError as error:
            raise RecipeError(f"branch {name!r}: {error}") from None


def check_named_images(plan: Plan) -> None:
    """Check images that rows name instead of holding: a plan opens none, so this comes when the run begins.

    Raises:
        JobError: as `make_plan` of images that rows hold.
    """
    assert plan.layout is not None
    first = FirstRows(plan.shards, plan.layout, plan.recipe.input.max_pixels)
    if any(row.link is not None for row in first.rows):
        links = ImageLinks.of(plan.recipe.input, plan.base)
        check_images(plan.recipe, _models(plan.branches), replace(first, links=links))


def _models(branches: Sequence[BranchPlan]) -> list[list[Mapping[str, FileRef]]]:
    """Return the models of every step of every branch of the recipe."""
    return [[step.models for step in branch.steps] for branch in branches if branch.name != ORIGINAL]


def _check_count(recipe: Recipe, branches: Sequence[BranchPlan], found: InputPlan, limit: int | None) -> None:
    """Raise RecipeError where there are more units than a plan can hold, before any of them is made."""
    total, size = 0, recipe.output.rows_per_unit
    for branch in branches:
        if branch.copies:
            total += sum(-(-rows // size) for _, rows in _rows_taken(found.shards, limit))
        else:
            labels, count = _asked_for(recipe, branch, found.layout, limit)
            total += len(labels) * -(-count // size)
    if total > MOST_UNITS:
        raise RecipeError(
            f"recipe.output.rows_per_unit = {size}: {total:,} units, and a plan has {MOST_UNITS:,} at most; raise it "
            f"(to {MOST_ROWS_PER_UNIT:,}), or ask for fewer images"
        )


def _units(
    recipe: Recipe, branch: BranchPlan, found: InputPlan, common: list[Any], limit: int | None
) -> Iterator[Unit]:
    identity = [*common, *branch.identity(), *names_read(branch.parts, found.layout)]
    if branch.copies == 0:
        yield from _synthetic_units(recipe, branch, found.layout, identity, limit)
        return
    for shard, rows_in in _rows_taken(found.shards, limit):
        more = found.identities.get(shard.path, [])
        for first in range(0, rows_in, recipe.output.rows_per_unit):
            rows = min(recipe.output.rows_per_unit, rows_in - first)
            name = f"{branch.name}-{_slug(shard.path)}-{first:09d}"
            made = digest([*identity, branch.where, shard.path, shard.digest, shard.columns, first, rows, *more])
            yield Unit(name, made, branch.name, first, rows, shard)


def _rows_taken(shards: Sequence[Shard], limit: int | None) -> Iterator[tuple[Shard, int]]:
    """Yield each shard, and how many of its rows are taken."""
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
    """Return the classes that a branch without sources makes images of, and how many of each."""
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
