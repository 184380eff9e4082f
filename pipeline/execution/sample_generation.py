"""Making a window's samples: through chain and gates, and again under a new sample id where a gate refuses one."""

from collections.abc import Sequence
from typing import Any

from pipeline.contracts import PartnerRow
from pipeline.execution.background import BackgroundThreads
from pipeline.execution.chain import LoadedStep, RowLookup, run_chain
from pipeline.execution.gate_scores import score_gates
from pipeline.execution.job import LoadedBranch
from pipeline.execution.micro_batches import ComputeReport
from pipeline.execution.output_rows import sized
from pipeline.execution.partners import drawn_partner
from pipeline.execution.sample import Sample
from pipeline.execution.window import Window, new_sample
from pipeline.plan import Unit


def make_samples(
    branch: LoadedBranch, unit: Unit, window: Window, report: ComputeReport, background: BackgroundThreads
) -> None:
    """Make every sample of a window, in place, and make refused ones again, up to `attempts` times in all.

    In `window.samples` each attempt stands behind the one before, and only the last one of an image is `final`. The
    micro-batches of a further attempt hold the samples that the attempt before refused, in the same order.

    Raises:
        UnitError: an operator or a gate failed on every image of the window.
    """
    for sample in window.samples:
        sample.shape = None if sample.pixels is None else sample.pixels.shape
        sample.source_pixels = sample.pixels if branch.gates else None
    images = [[sample] for sample in window.samples]
    current = images
    for attempt in range(branch.plan.attempts):
        last = [image[-1] for image in current]
        _run_chain(branch, window, last, report, again=attempt > 0)
        refused = {sample.sample_id for sample in _refused(branch, last, report, background)}
        current = [image for image in current if image[-1].sample_id in refused]
        if not current or attempt + 1 == branch.plan.attempts:
            break
        for image in current:
            before = image[-1]
            before.final = False
            again = new_sample(branch.job, unit, window, before.source, before.copy, before.source_pixels, attempt + 1)
            again.shape, again.source_pixels = before.shape, before.source_pixels
            image.append(again)
    window.samples[:] = [sample for image in images for sample in image]
    for sample in window.samples:
        sample.source_pixels = None  # nothing needs the sources while the window is encoded


def _run_chain(
    branch: LoadedBranch, window: Window, samples: Sequence[Sample], report: ComputeReport, again: bool
) -> None:
    job = branch.job

    def columns(some: Sequence[Sample]) -> dict[str, list[Any]]:
        names = job.layout.light if job.layout and window.rows else ()
        return {name: [window.rows[sample.source].light[name] for sample in some] for name in names}

    def partner(sample: Sample, step: LoadedStep) -> PartnerRow | None:
        own = window.rows[sample.source]
        return drawn_partner(sample.sample_id, step.index, own, window.candidates, step.operator, job.table)

    rows = RowLookup(columns, partner)
    run_chain(branch.steps, samples, rows, job.classes, branch.plan.micro_batch, branch.device, report, again)


def _refused(
    branch: LoadedBranch, samples: Sequence[Sample], report: ComputeReport, background: BackgroundThreads
) -> list[Sample]:
    """Return the samples that gates refuse; their scores are those of the size and channels that are stored."""
    if not branch.gates:
        return []
    alive = [sample for sample in samples if sample.alive]
    for sample, pixels in zip(alive, background.map(lambda each: sized(branch.job, each), alive), strict=True):
        sample.pixels = pixels
    return score_gates(branch.gates, alive, branch.job.classes, branch.device, report)
