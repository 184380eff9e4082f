"""The nouns of a plan: what each branch does, which units there are, and what each of them computes. Picklable.

`pipeline/planning/planner.py` makes a plan of a recipe; everything that runs, publishes or verifies reads it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.contracts import Gate, Operator
from pipeline.model_files.references import FileRef
from pipeline.registry import gate_class, operator_class
from pipeline.shards.columns.label_values import LabelValues
from pipeline.shards.columns.layout import Layout
from pipeline.shards.files.discovery import Shard
from pipeline.shards.files.listing import Skipped
from pipeline.validation import parse
from schemas.recipe import Recipe

ORIGINAL = "original"
"""The branch that `keep_originals` adds."""

Models = Mapping[str, FileRef]
Images = Mapping[str, tuple[FileRef, ...]]


def content(params: Mapping[str, Any], models: Models, images: Images) -> dict[str, Any]:
    """Return what a part computes with: parameters, and files by content, wherever they lie."""
    files = {name: model.sha256 for name, model in models.items()}
    return {**params, **files, **{name: [image.sha256 for image in some] for name, some in images.items()}}


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
class GatePlan:
    """One gate of a branch, with everything resolved."""

    gate: str
    version: int
    params: Mapping[str, Any]
    models: Mapping[str, FileRef] = field(default_factory=dict)
    images: Mapping[str, tuple[FileRef, ...]] = field(default_factory=dict)

    def identity(self) -> list[Any]:
        """Return what this gate computes, wherever its files lie."""
        return [self.gate, self.version, content(self.params, self.models, self.images)]

    def make(self) -> Gate:
        """Return the gate, not loaded yet."""
        found = gate_class(self.gate)
        return found(parse(found.Params, self.params, self.gate))


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
    skipped: Skipped = field(default_factory=Skipped)  # names of the input that were passed over
    splits: Mapping[str | None, int] = field(default_factory=dict)  # rows of the input by split; None: in none

    @property
    def classes(self) -> tuple[str, ...]:
        return (self.layout.classes or ()) if self.layout else ()

    def images(self, branch: BranchPlan) -> int:
        """Return how many images a branch makes at most (before `where`)."""
        return sum(unit.rows for unit in self.units if unit.branch == branch.name) * max(1, branch.copies)
