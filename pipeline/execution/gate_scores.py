"""Gate scores of finished images: computed in micro-batches, and compared with the bounds of each gate."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.contracts import Gate, MadeBatch
from pipeline.errors import RowError, UnitError
from pipeline.execution.micro_batches import ComputeReport, call_in_halves, micro_batches
from pipeline.execution.sample import Sample
from pipeline.plan import GatePlan

GATE_FAILED = "gate_failed"


@dataclass(frozen=True)
class LoadedGate:
    """A gate on its device."""

    plan: GatePlan
    gate: Gate


def score_gates(
    gates: Sequence[LoadedGate],
    samples: Sequence[Sample],
    classes: Sequence[str],
    device: str,
    report: ComputeReport,
) -> list[Sample]:
    """Score every sample that was neither rejected nor failed with every gate, in place; return those refused.

    The reason of a refused sample is the first gate, in the order of the recipe, that refuses it. Micro-batches follow
    the order of the samples, so they are the same on every machine.

    Raises:
        UnitError: a gate failed on every image, so the images are not at fault.
        JobError: a gate cannot score this branch at all.
    """
    started = time.perf_counter()
    refused: list[Sample] = []
    alive = [sample for sample in samples if sample.alive]
    for loaded in gates:
        scored = [sample for sample in alive if sample.error is None]
        for part in micro_batches(scored, _shapes, loaded.gate.micro_batch):
            _score(loaded.gate, part, classes, device, report)
        errors = [sample.error for sample in scored if sample.error is not None]
        if len(errors) == len(scored) > 1:
            raise UnitError(f"every image failed: {errors[0].message}")
        for sample in scored:
            if sample.error is None and sample.rejected is None and not keeps(loaded.gate, sample.scores[-1]["score"]):
                sample.rejected = loaded.gate.name
                refused.append(sample)
    report.busy_s += time.perf_counter() - started
    return [sample for sample in refused if sample.error is None]


def keeps(gate: Gate, score: float) -> bool:
    """Whether a gate keeps an image of this score, compared in float32 as it is stored; NaN is refused."""
    return within(gate.bounds, score)


def within(bounds: tuple[float, float], score: float) -> bool:
    """Whether a score lies within bounds, both included, in float32; NaN does not."""
    lower, upper = (np.float32(bound) for bound in bounds)
    return bool(lower <= np.float32(score) <= upper)


def _shapes(sample: Sample) -> object:
    assert sample.pixels is not None
    return sample.pixels.shape, sample.shape


def _score(gate: Gate, samples: Sequence[Sample], classes: Sequence[str], device: str, report: ComputeReport) -> None:
    """Score samples of one size, in halves where that fails."""

    def call(some: Sequence[Sample]) -> npt.NDArray[np.float32]:
        return gate.score(_batch(some, classes))

    for some, answer in call_in_halves(samples, call, gate.name, GATE_FAILED, device, report):
        if isinstance(answer, RowError):
            some[0].error = answer
            continue
        for sample, score in zip(some, answer, strict=True):
            sample.scores.append({"gate": gate.name, "score": float(score)})


def _batch(samples: Sequence[Sample], classes: Sequence[str]) -> MadeBatch:
    sources = [sample.source_pixels for sample in samples if sample.source_pixels is not None]
    return MadeBatch(
        images=np.stack([sample.pixels for sample in samples if sample.pixels is not None]),
        sources=None if samples[0].shape is None else np.stack(sources),
        labels=np.array([sample.label for sample in samples], np.int64),
        classes=classes,
        prompts=[_prompt(sample) for sample in samples],
    )


def _prompt(sample: Sample) -> str | None:
    """Return the prompt that the last step with one has drawn; None without any."""
    drawn = [json.loads(step["params"]).get("prompt") for step in sample.steps]
    return next((prompt for prompt in reversed(drawn) if isinstance(prompt, str)), None)
