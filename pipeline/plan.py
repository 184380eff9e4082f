"""The data classes of a plan: branches, their steps and gates, and the units of work. All can be pickled.

`pipeline/planning/planner.py` makes a plan of a recipe; everything that runs, publishes or verifies reads it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

from pipeline.contracts import Gate, Operator, Part
from pipeline.model_files.references import FileRef
from pipeline.packages import Package
from pipeline.registry import GATE, OPERATOR, Kind, planned_class
from pipeline.shards.columns.label_values import LabelValues
from pipeline.shards.columns.layout import Layout
from pipeline.shards.files.discovery import Shard
from pipeline.shards.files.listing import Skipped
from pipeline.shards.units import Totals, Unit, Units
from pipeline.validation import parse
from schemas.recipe import Recipe

__all__ = ["Totals", "Unit", "Units"]  # and what is defined here

ORIGINAL = "original"
"""Name of the branch that `output.keep_originals` adds."""

P = TypeVar("P", bound=Part)
Models = Mapping[str, FileRef]
Images = Mapping[str, tuple[FileRef, ...]]


def content(params: Mapping[str, Any], models: Models, images: Images) -> dict[str, Any]:
    """Return what the result of an operator or a gate depends on: its parameters, and the sha256 of its files."""
    files = {name: model.sha256 for name, model in models.items()}
    return {**params, **files, **{name: [image.sha256 for image in some] for name, some in images.items()}}


class PartPlan(Generic[P]):
    """What the plans of an operator and of a gate have in common; the data classes below hold the fields."""

    kind: ClassVar[Kind[Any]]
    version: int
    params: Mapping[str, Any]
    models: Models
    images: Images
    package: Package | None

    @property
    def name(self) -> str:
        """The name that errors and digests use."""
        raise NotImplementedError

    def identity(self) -> list[Any]:
        """Return what the result of this part depends on, for the unit digests. Paths of files are not part of it."""
        made = [self.name, self.version, content(self.params, self.models, self.images)]
        return made if self.package is None else [*made, self.package.identity()]

    @property
    def part_class(self) -> type[P]:
        """The part's class. Raises JobError where its code is not here, or is other code than the planned one."""
        return planned_class(self.kind, self.name, self.package)

    def make(self) -> P:
        """Return the operator or gate, not loaded yet. Raises JobError as `part_class`."""
        found = self.part_class
        return found(parse(found.Params, self.params, self.name))


@dataclass(frozen=True)
class StepPlan(PartPlan[Operator]):
    """One operator of a branch, with its parameters, model files and reference images.

    `operator` is the name as the recipe writes it; `package` its code, None where it is built in.
    """

    kind: ClassVar[Kind[Any]] = OPERATOR

    operator: str
    version: int
    params: Mapping[str, Any]
    models: Models = field(default_factory=dict)
    images: Images = field(default_factory=dict)
    package: Package | None = None
    changes_labels: bool = False

    @property
    def name(self) -> str:
        """The operator's name as the recipe writes it."""
        return self.operator


@dataclass(frozen=True)
class GatePlan(PartPlan[Gate]):
    """One gate of a branch, with its parameters, model files and reference images. `gate` is its own name.

    `package` is its code, None where it is built in; if set, `bounds` are its bounds (None: none) for readers that do
    not import it.
    """

    kind: ClassVar[Kind[Any]] = GATE

    gate: str
    version: int
    params: Mapping[str, Any]
    models: Models = field(default_factory=dict)
    images: Images = field(default_factory=dict)
    package: Package | None = None
    bounds: tuple[float | None, float | None] | None = None

    @property
    def name(self) -> str:
        """The gate's own name."""
        return self.gate


@dataclass(frozen=True)
class BranchPlan:
    """One branch: its steps, gates and resources. `copies` is 0 for a branch that generates images without sources."""

    name: str
    steps: tuple[StepPlan, ...]
    copies: int
    where: str | None
    micro_batch: int
    digital_source_type: str | None
    gpus: float = 0.0
    cpus: float = 1.0
    actors: int | None = None  # None: as many as the machine can hold
    gates: tuple[GatePlan, ...] = ()
    attempts: int = 1  # attempts at an image that a gate refuses, at most

    @property
    def operators(self) -> list[type[Operator]]:
        return [step.part_class for step in self.steps]

    @property
    def parts(self) -> tuple[StepPlan | GatePlan, ...]:
        return (*self.steps, *self.gates)

    def identity(self) -> list[Any]:
        """Return what the images of this branch depend on beside their source rows, for the unit digests."""
        made = [self.name, [step.identity() for step in self.steps], self.micro_batch, self.copies]
        if not self.gates:
            return made
        return [*made, {"gates": [gate.identity() for gate in self.gates], "attempts": self.attempts}]


@dataclass(frozen=True, repr=False)
class Plan:
    """Everything that `run` needs, decided before anything runs."""

    recipe: Recipe
    base: str
    output: str
    layout: Layout | None
    shards: tuple[Shard, ...]
    branches: tuple[BranchPlan, ...]
    units: Units
    digest: str
    limit: int | None = None
    key_id: str | None = None  # public id of the watermark key; a plan never holds the key
    labels: LabelValues = field(default_factory=LabelValues)  # values of the label column, with their rows
    notes: tuple[str, ...] = ()  # lines for the user, printed before the run
    skipped: Skipped = field(default_factory=Skipped)  # files and folders of the input that were skipped
    splits: Mapping[str | None, int] = field(default_factory=dict)  # rows of the input by split; None: rows in no split

    @property
    def classes(self) -> tuple[str, ...]:
        return (self.layout.classes or ()) if self.layout else ()

    def __repr__(self) -> str:
        branches = ", ".join(branch.name for branch in self.branches)
        found = f"branches {branches}; {len(self.shards)} shards, {len(self.units)} units"
        return f"<Plan {self.digest[:12]}: {found}; output {self.output}>"

    def images(self, branch: BranchPlan) -> int:
        """Return the largest number of images a branch can make, before `where`."""
        return self.units_in(branch.name).rows * max(1, branch.copies)

    def units_in(self, branch: str) -> Totals:
        """Return how many units a branch has, and the rows (or images without sources) in them."""
        return self.units.totals.get(branch, Totals())
