"""Samples through the operators of a branch: each step draws for all, then applies micro-batch by micro-batch."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.contracts import Applied, Draws, ImageBatch, Operator, PartnerRow, Pixels
from pipeline.errors import JobError, RowError, UnitError
from pipeline.execution.micro_batches import ComputeReport, call_in_halves, grouped, micro_batches
from pipeline.execution.sample import Sample
from pipeline.noise import Noise
from pipeline.plan import StepPlan
from pipeline.seeding import canonical_json, step_seed

OPERATOR_FAILED = "operator_failed"


@dataclass(frozen=True)
class LoadedStep:
    """An operator on its device, with its place in the plan."""

    index: int
    plan: StepPlan
    operator: Operator


@dataclass(frozen=True)
class RowLookup:
    """Looks up source rows: columns without image data of some samples, and the partner row of one sample at a step."""

    columns: Callable[[Sequence[Sample]], dict[str, list[Any]]]
    partner: Callable[[Sample, LoadedStep], PartnerRow | None]


def run_chain(
    steps: Sequence[LoadedStep],
    samples: Sequence[Sample],
    rows: RowLookup,
    classes: Sequence[str],
    micro_batch: int,
    device: str,
    report: ComputeReport,
    again: bool = False,
) -> None:
    """Take every sample through every step, in place.

    Args:
        again: these few were made before, so an operator that fails on all of them is not broken.

    Raises:
        UnitError: an operator failed on every sample, so the rows are not at fault.
    """
    for step in steps:
        alive = [sample for sample in samples if sample.alive]
        for bucket in grouped(alive, lambda s: None if s.pixels is None else s.pixels.shape):
            batch = _batch(step, bucket, rows, classes)
            started = time.perf_counter()
            draws = step.operator.draw(batch)
            calls = [_once_per_call_key(step.operator, draws, index) for index in range(len(bucket))]
            for part in micro_batches(range(len(bucket)), calls.__getitem__, micro_batch):
                _apply(step, bucket, batch, draws, part, device, report)
            report.busy_s += time.perf_counter() - started
        errors = [sample.error for sample in alive if sample.error and sample.error.code == OPERATOR_FAILED]
        if len(errors) == len(alive) > 1 and not again:
            raise UnitError(f"every image failed: {errors[0].message}")


def _once_per_call_key(operator: Operator, draws: Draws, index: int) -> str:
    if not operator.once_per_call:
        return ""
    return canonical_json([draws.columns[name][index] for name in operator.once_per_call])


def _batch(step: LoadedStep, bucket: Sequence[Sample], rows: RowLookup, classes: Sequence[str]) -> ImageBatch:
    return ImageBatch(
        images=None if bucket[0].pixels is None else _stacked([s.pixels for s in bucket if s.pixels is not None]),
        seeds=[step_seed(s.sample_id, step.index) for s in bucket],
        labels=np.array([s.label for s in bucket], dtype=np.int64),
        classes=classes,
        columns=rows.columns(bucket),
        partners=None if step.operator.partner is None else [rows.partner(sample, step) for sample in bucket],
    )


def _stacked(images: Sequence[Pixels]) -> Pixels:
    """Return [N, H, W, C]: the images' own memory where they lie side by side and are the samples' alone, else a copy.

    An image that others read as well, such as a source that is kept for gates or partners, cannot be written to.
    """
    memory = images[0].base
    if isinstance(memory, np.ndarray) and memory.shape[1:] == images[0].shape and memory.flags.c_contiguous:
        size = images[0].nbytes
        first, rest = divmod(images[0].ctypes.data - memory.ctypes.data, size)
        beside = all(
            image.base is memory
            and image.flags.writeable
            and image.ctypes.data == memory.ctypes.data + (first + i) * size
            for i, image in enumerate(images)
        )
        if beside and not rest:
            return memory[first : first + len(images)]
    return np.stack(images)


def _take(batch: ImageBatch, draws: Draws, rows: Sequence[int]) -> tuple[ImageBatch, Draws]:
    taken = ImageBatch(
        images=None if batch.images is None else batch.images[_row_index(rows)],
        seeds=[batch.seeds[i] for i in rows],
        labels=batch.labels[list(rows)],
        classes=batch.classes,
        columns={name: [values[i] for i in rows] for name, values in batch.columns.items()},
        partners=None if batch.partners is None else [batch.partners[i] for i in rows],
    )
    partners = None if draws.partners is None else [draws.partners[i] for i in rows]
    return taken, Draws({name: [values[i] for i in rows] for name, values in draws.columns.items()}, partners)


def _row_index(rows: Sequence[int]) -> slice | list[int]:
    """Return an index of `rows`: a slice where they are consecutive, which copies nothing."""
    first, last = rows[0], rows[-1]
    return slice(first, last + 1) if list(rows) == list(range(first, last + 1)) else list(rows)


def _apply(
    step: LoadedStep,
    bucket: Sequence[Sample],
    batch: ImageBatch,
    draws: Draws,
    rows: Sequence[int],
    device: str,
    report: ComputeReport,
) -> None:
    """Apply the step to `rows`, in halves where that fails, and record each sample's result."""

    def call(some: Sequence[int]) -> tuple[ImageBatch, Draws, Applied]:
        part, drawn = (batch, draws) if len(some) == len(batch) else _take(batch, draws, some)
        applied = step.operator.apply(part, drawn, Noise(part.seeds, device))
        _check_labels(step, applied)
        return part, drawn, applied

    for some, answer in call_in_halves(rows, call, step.plan.operator, OPERATOR_FAILED, device, report):
        if isinstance(answer, RowError):
            bucket[some[0]].error = answer
            continue
        about = _about(step)
        for place, row in enumerate(some):
            _record(about, bucket[row], place, *answer)


def _check_labels(step: LoadedStep, applied: Applied) -> None:
    """Raise JobError where an operator changes labels and its class does not declare it, as `verify` relies on it."""
    operator = step.operator
    if not operator.changes_labels and applied.soft_labels is not None:
        raise JobError(f"{step.plan.operator}: it returned soft_labels, and its class has not changes_labels = True")
    if not operator.generative and applied.labels is not None and applied.soft_labels is None:
        raise JobError(f"{step.plan.operator}: it returned labels without soft_labels; one class is a 1 among zeros")


def _about(step: LoadedStep) -> dict[str, Any]:
    """Return what the lineage says of a step, whatever the sample."""
    models = step.plan.models.values()
    return {
        "operator": step.plan.operator,
        "version": step.plan.version,
        "model_id": "+".join(model.reference for model in models) or None,
        "model_sha256": "+".join(model.sha256 for model in models) or None,
        "package": None if step.plan.package is None else str(step.plan.package),
    }


def _record(
    about: dict[str, Any], sample: Sample, place: int, batch: ImageBatch, draws: Draws, applied: Applied
) -> None:
    """Put the result of a step into a sample; `about` is what the lineage says of the step."""
    sample.steps.append({**about, "params": canonical_json(draws.row(place)), "seed": batch.seeds[place]})
    if draws.partners is not None:
        sample.partners.extend(draws.partners[place])
    sample.error = applied.errors.get(place)
    sample.rejected = applied.rejected.get(place)
    if sample.error is None:
        sample.pixels = applied.images[place]
    if applied.labels is not None:
        sample.label = int(applied.labels[place])
    if applied.soft_labels is not None:
        sample.soft_label = [float(value) for value in applied.soft_labels[place]]
