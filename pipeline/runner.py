"""`run_unit`: the product. Read, decode, draw and apply, encode, accept or reject, write, commit.

A unit is a pure function of its inputs. Nothing here knows who calls it, how many others run, or what ran before.
"""

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from pipeline.chain import ChainReport, LoadedStep, Sample, run_chain
from pipeline.contracts import Pixels, ReferenceImage, Supply
from pipeline.errors import RowError, UnitError
from pipeline.lineage.records import RowSchema, output_table, quarantine_table
from pipeline.models.references import local_file
from pipeline.overlap import Overlap
from pipeline.plan import ORIGINAL, BranchPlan, StepPlan, Unit
from pipeline.registry import operator_class
from pipeline.seeding import sample_id, synthetic_id
from pipeline.selection import Selection
from pipeline.shards.codecs import decode, encode, extension, fit_square, resize, to_channels
from pipeline.shards.commit import UnitFiles
from pipeline.shards.layout import Layout
from pipeline.shards.reader import SourceRow, read_windows
from pipeline.shards.store import Store, open_store
from schemas.manifest import Marker
from schemas.recipe import Recipe

WINDOW_IMAGES = 64
"""Images in memory at a time, at least; also the rows of a Parquet row group."""


@dataclass(frozen=True)
class Job:
    """What every worker knows of the run. Picklable; holds no units and no key."""

    recipe: Recipe
    output: str
    layout: Layout | None
    classes: tuple[str, ...] = ()

    def open_store(self) -> Store:
        return open_store(self.output)

    @cached_property
    def rows(self) -> RowSchema:
        layout = self.layout
        return RowSchema(layout.schema, layout.image, layout.label) if layout else RowSchema(None, None, None)


@dataclass(frozen=True)
class LoadedBranch:
    """A branch with its operators on a device."""

    job: Job
    plan: BranchPlan
    steps: tuple[LoadedStep, ...]
    selection: Selection
    device: str

    @classmethod
    def load(cls, job: Job, plan: BranchPlan, device: str) -> "LoadedBranch":
        """Load every operator of the branch. Raises JobError where a model or a reference image is not usable."""
        _set_threads(job.recipe.numerics.threads, plan)
        store = job.open_store()
        steps = []
        for index, step in enumerate(plan.steps):
            found = operator_class(step.operator)
            operator = found(found.Params.model_validate(step.params))
            operator.load(device, _supply(store, step))
            steps.append(LoadedStep(index, step, operator))
        return cls(job, plan, tuple(steps), Selection(plan.where), device)

    @property
    def window_rows(self) -> int:
        """Source rows a window: whole micro-batches, and all copies of a row together."""
        images = self.plan.micro_batch * -(-WINDOW_IMAGES // self.plan.micro_batch)
        return max(1, images // max(1, self.plan.copies))


def _set_threads(threads: int, plan: BranchPlan) -> None:
    """Fix torch's threads: they change sums in the last bit. Only where an operator uses torch at all."""
    if any(operator.uses_torch for operator in plan.operators):
        import torch

        torch.set_num_threads(threads)


def _supply(store: Store, step: StepPlan) -> Supply:
    return Supply(
        models={name: local_file(model) for name, model in step.models.items()},
        images={
            name: [ReferenceImage(ref.uri, ref.sha256, store.read(f"_artifacts/{ref.sha256}")) for ref in refs]
            for name, refs in step.images.items()
        },
    )


@dataclass
class Window:
    """Some consecutive source rows of a unit, decoded, and the samples to be made of them."""

    table: pa.Table | None
    rows: list[SourceRow]
    samples: list[Sample]
    errors: dict[int, RowError]  # by index in `rows`
    selected: int


def run_unit(branch: LoadedBranch, unit: Unit) -> Marker:
    """Make one unit and commit it.

    Raises:
        UnitError: the shard cannot be read, memory ran out, an operator failed on every image.
        ConflictError: the unit is there already with another digest.
    """
    started = time.perf_counter()
    report = ChainReport()
    counts = {"selected": 0, "accepted": 0, "rejected": 0, "quarantined": 0}
    with UnitFiles(branch.job.open_store(), unit.name) as files, Overlap(branch.plan.cpus, branch.device) as overlap:
        for window in overlap.ahead(windows(branch, unit, overlap)):
            made = make_window(branch, unit, window, report, overlap)
            for folder, table in made.items():
                files.add(folder, table)
            counts["selected"] += window.selected
            for name, folder in (("accepted", "data"), ("rejected", "rejected"), ("quarantined", "quarantine")):
                counts[name] += made[folder].num_rows if folder in made else 0
        marker = Marker(
            unit=unit.name,
            digest=unit.digest,
            branch=unit.branch,
            shard=unit.shard.path if unit.shard else None,
            first=unit.first,
            rows=unit.rows,
            label=unit.label,
            copies=max(1, branch.plan.copies),
            **counts,
            files={},
            exact=report.exact,
            seconds=round(time.perf_counter() - started, 3),
            busy_s=round(report.busy_s, 3),
        )
        check_sum(marker)
        return files.commit(marker)


def check_sum(marker: Marker) -> None:
    """Raise UnitError unless every image asked for is accepted, rejected, or quarantined with its row."""
    ended = marker.accepted + marker.rejected + marker.quarantined * marker.copies
    if ended != marker.selected * marker.copies:
        raise UnitError(
            f"unit {marker.unit}: {marker.selected * marker.copies} images asked for, {ended} accounted for"
        )


def windows(branch: LoadedBranch, unit: Unit, overlap: "Overlap") -> Iterator[Window]:
    """Yield a unit's windows in order."""
    if unit.shard is None:
        yield from _synthetic_windows(branch, unit)
        return
    job = branch.job
    assert job.layout is not None
    for table, rows in read_windows(unit.shard, job.layout, unit.first, unit.rows, branch.window_rows):
        chosen = branch.selection.of(rows)
        decoded = overlap.map(lambda index: _decoded(job, rows[index]), chosen)  # noqa: B023 - consumed at once
        samples, errors = [], {}
        for index, pixels in zip(chosen, decoded, strict=True):
            if isinstance(pixels, RowError):
                errors[index] = pixels
                continue
            for copy in range(branch.plan.copies):
                name = sample_id(job.recipe.seed, unit.shard.path, rows[index].row, unit.branch, copy)
                samples.append(Sample(name, index, copy, _class_index(rows[index].label), pixels))
        yield Window(table, rows, samples, errors, len(chosen))


def _synthetic_windows(branch: LoadedBranch, unit: Unit) -> Iterator[Window]:
    for first in range(unit.first, unit.first + unit.rows, branch.window_rows):
        count = min(branch.window_rows, unit.first + unit.rows - first)
        label = _class_index(unit.label)
        names = [synthetic_id(branch.job.recipe.seed, unit.branch, unit.label, first + i) for i in range(count)]
        yield Window(None, [], [Sample(name, i, 0, label) for i, name in enumerate(names)], {}, count)


def _class_index(label: Any) -> int:
    return int(label) if isinstance(label, int) else -1


def _decoded(job: Job, row: SourceRow) -> Pixels | RowError:
    if row.error is not None or row.data is None:
        return row.error or RowError("null_image", "the image is null")
    try:
        pixels = decode(row.data, job.recipe.input.max_pixels)
    except RowError as error:
        return error
    size = job.recipe.output.size
    return pixels if size == "source" else fit_square(pixels, size)


def make_window(
    branch: LoadedBranch, unit: Unit, window: Window, report: ChainReport, overlap: "Overlap"
) -> dict[str, pa.Table]:
    """Make every image of a window; return a table for each of the folders that gets rows."""
    job, samples = branch.job, window.samples
    shapes = [None if sample.pixels is None else sample.pixels.shape for sample in samples]

    def columns(bucket: Sequence[Sample]) -> dict[str, list[Any]]:
        names = job.layout.light if job.layout and window.rows else ()
        return {name: [window.rows[sample.source].light[name] for sample in bucket] for name in names}

    run_chain(branch.steps, samples, columns, job.classes, branch.plan.micro_batch, branch.device, report)
    for sample in samples:
        if sample.error is not None:
            window.errors.setdefault(sample.source, sample.error)
    # A row is quarantined whole: one lost copy would leave the others without their account.
    kept = [
        (sample, shape) for sample, shape in zip(samples, shapes, strict=True) if sample.source not in window.errors
    ]
    images = list(overlap.map(lambda pair: _encoded(job, unit, pair[0], pair[1], window.rows), kept))
    hashes = _Hashes(window.rows)
    rows = [output_row(branch, unit, window, pair[0], image, hashes) for pair, image in zip(kept, images, strict=True)]
    tables = {
        "data": [row for row in rows if row.get("rejected_reason") is None],
        "rejected": [row for row in rows if row.get("rejected_reason") is not None],
    }
    made = {
        folder: output_table(job.rows, window.table, found, folder == "rejected")
        for folder, found in tables.items()
        if found
    }
    if window.errors and window.table is not None:
        made["quarantine"] = quarantine_table(job.rows, window.table, _quarantined(unit, window))
    return made


def _encoded(job: Job, unit: Unit, sample: Sample, shape: tuple[int, ...] | None, rows: Sequence[SourceRow]) -> bytes:
    if unit.branch == ORIGINAL:
        data = rows[sample.source].data
        assert data is not None
        return data
    assert sample.pixels is not None
    pixels = sample.pixels
    size = job.recipe.output.size
    height, width = (size, size) if isinstance(size, int) else (shape or pixels.shape)[:2]
    if pixels.shape[:2] != (height, width):
        pixels = resize(pixels, height, width)
    channels = job.recipe.output.channels
    if channels == "source" and shape is not None:
        channels = "grey" if shape[2] == 1 else "rgb"
    return encode(to_channels(pixels, channels), job.recipe.output.encoding, job.recipe.output.quality)


class _Hashes:
    """sha256 of source rows, each computed once for all its copies."""

    def __init__(self, rows: Sequence[SourceRow]) -> None:
        self._rows = rows
        self._found: dict[int, str] = {}

    def __getitem__(self, index: int) -> str:
        if index not in self._found:
            self._found[index] = hashlib.sha256(self._rows[index].data or b"").hexdigest()
        return self._found[index]


def output_row(
    branch: LoadedBranch, unit: Unit, window: Window, sample: Sample, image: bytes, hashes: _Hashes
) -> dict[str, Any]:
    """Return one output row, with the names of the contract's columns."""
    job = branch.job
    original = unit.branch == ORIGINAL
    row: dict[str, Any] = {
        "source": sample.source,
        "image": {
            "bytes": image,
            "path": None if original else f"{sample.sample_id}{extension(job.recipe.output.encoding)}",
        },
        "label": unit.label,
        "soft_label": sample.soft_label,
        "sample_id": sample.sample_id,
        "partners": [vars(partner) for partner in sample.partners],
        "branch": unit.branch,
        "copy_index": sample.copy,
        "attempt": 0,
        "steps": sample.steps,
        "digital_source_type": None if original else branch.plan.digital_source_type,
        "unit_digest": unit.digest,
        "image_sha256": hashlib.sha256(image).hexdigest(),
        "watermarks": [],
        "quality": [],
        "rejected_reason": sample.rejected,
    }
    if unit.shard is not None:
        source = window.rows[sample.source]
        row |= {
            "label": source.label,
            "source_id": source.id,
            "source_uri": source.uri,
            "source_row": source.row,
            "source_sha256": hashes[sample.source],
        }
    return row


def _quarantined(unit: Unit, window: Window) -> list[dict[str, Any]]:
    return [
        {
            "source": index,
            "image": {"bytes": window.rows[index].data, "path": None},
            "source_id": window.rows[index].id,
            "source_uri": window.rows[index].uri,
            "source_row": window.rows[index].row,
            "branch": unit.branch,
            "error_code": error.code,
            "error_message": error.message,
        }
        for index, error in sorted(window.errors.items())
    ]
