"""The job, which every worker gets, and a branch with its operators and gates loaded on a device."""

from dataclasses import dataclass, field, replace
from functools import cached_property

from pipeline.contracts import Assets, ReferenceImage
from pipeline.devices import set_deterministic
from pipeline.errors import JobError
from pipeline.execution.chain import LoadedStep
from pipeline.execution.fit import fits, read_fitted
from pipeline.execution.gate_scores import LoadedGate
from pipeline.execution.partners import MIN_ROWS
from pipeline.execution.watermarking import Watermarker
from pipeline.lineage.records import RowSchema
from pipeline.model_files.references import local_file
from pipeline.plan import BranchPlan, GatePlan, Plan, StepPlan
from pipeline.planning.input.annotation_checks import dimensions_of
from pipeline.planning.where.row_filter import RowFilter
from pipeline.shards.columns.class_table import ClassTable
from pipeline.shards.columns.layout import Layout
from pipeline.shards.cursor import CursorCache
from pipeline.shards.links.linked_images import OWN_FOLDER, ImageLinks
from pipeline.shards.output.store import Store, open_store
from pipeline.watermark_key import key_id
from schemas.recipe import Recipe

WINDOW_IMAGES = 64
"""Smallest number of images in memory at a time; also the rows of a Parquet row group."""


@dataclass(frozen=True)
class Job:
    """What every worker needs of the run. Picklable; holds neither units nor the watermark key."""

    recipe: Recipe
    output: str
    layout: Layout | None
    classes: tuple[str, ...] = ()
    key_id: str | None = None
    links: ImageLinks = OWN_FOLDER

    @classmethod
    def of(cls, plan: Plan) -> "Job":
        links = ImageLinks.of(plan.recipe.input, plan.base)
        return cls(plan.recipe, plan.output, plan.layout, plan.classes, plan.key_id, links)

    def open_store(self) -> Store:
        return open_store(self.output)

    @cached_property
    def rows(self) -> RowSchema:
        layout = self.layout
        if layout is None:
            return RowSchema(None, None, None)
        return RowSchema(layout.schema, layout.image, layout.carried_label, layout.classes or ())

    @cached_property
    def table(self) -> ClassTable:
        """The mapping between stored labels and class indexes."""
        return self.layout.table if self.layout else ClassTable(self.classes)

    @cached_property
    def dimensions(self) -> dict[str, str]:
        """Output columns that hold the size of the image, such as `width`, by input column."""
        kept = dict(self.rows.kept)
        return {name: kept[name] for name in dimensions_of(self.layout, self.recipe)} if self.layout else {}

    def watermarker(self, key: bytes | None, device: str) -> Watermarker | None:
        """Return the watermarker of this job; None where the recipe says `watermark: none`.

        Raises:
            JobError: there is no key here, or it is not the one the run was planned with.
        """
        if self.recipe.watermark == "none":
            return None
        if key is None or key_id(key) != self.key_id:
            state = "no watermark key" if key is None else "another watermark key"
            raise JobError(f"{state} here; the run was planned with key {self.key_id} (--key-file or PALIMPSEST_KEY)")
        return Watermarker(key, self.recipe.watermark.scheme, self.recipe.watermark.psnr_db, device)


@dataclass(frozen=True)
class LoadedBranch:
    """A branch with its operators and gates on a device."""

    job: Job
    plan: BranchPlan
    steps: tuple[LoadedStep, ...]
    selection: RowFilter
    watermarker: Watermarker | None
    device: str
    gates: tuple[LoadedGate, ...] = ()
    cursor_cache: CursorCache = field(default_factory=CursorCache)  # where the last unit stopped reading

    @classmethod
    def load(cls, job: Job, plan: BranchPlan, device: str, key: bytes | None = None) -> "LoadedBranch":
        """Load every operator and gate of the branch.

        Raises:
            JobError: a model, a reference image, the watermark key or `where` is not usable.
        """
        selection = RowFilter(plan.where, job.layout)
        if plan.where is not None:
            selection.check()  # of a data set that is replayed, no plan has
        watermarker = job.watermarker(key, device) if plan.steps else None
        made = [gate.make() for gate in plan.gates]
        on_torch = [operator.uses_torch for operator in plan.operators] + [gate.uses_torch for gate in made]
        if watermarker is not None or any(on_torch):
            set_deterministic(device, job.recipe.numerics.threads, job.recipe.numerics.tf32)
        store = job.open_store()
        steps = []
        for index, step in enumerate(plan.steps):
            operator = step.make()
            own = replace(_assets(store, step), dtype=job.recipe.numerics.dtype, micro_batch=plan.micro_batch)
            operator.load(device, own)
            steps.append(LoadedStep(index, step, operator))
        for gate, planned in zip(made, plan.gates, strict=True):
            gate.load(device, _assets(store, planned))
        gates = tuple(LoadedGate(planned, gate) for gate, planned in zip(made, plan.gates, strict=True))
        return cls(job, plan, tuple(steps), selection, watermarker, device, gates)

    @property
    def window_rows(self) -> int:
        """Source rows of a window: whole micro-batches, with all copies of a row in one window."""
        images = self.plan.micro_batch * -(-WINDOW_IMAGES // self.plan.micro_batch)
        return max(MIN_ROWS if self.wants_partners else 1, images // max(1, self.plan.copies))

    @property
    def wants_partners(self) -> bool:
        """Whether an operator of the branch needs partner rows."""
        return any(step.operator.partner is not None for step in self.steps)


def _assets(store: Store, part: StepPlan | GatePlan) -> Assets:
    models = {name: local_file(model) for name, model in part.models.items()}
    if isinstance(part, StepPlan) and fits(part):
        return Assets(models, fitted=read_fitted(part, store))
    images = {
        name: [ReferenceImage(ref.uri, ref.sha256, store.read(f"_artifacts/{ref.sha256}")) for ref in refs]
        for name, refs in part.images.items()
    }
    return Assets(models, images)
