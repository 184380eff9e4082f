"""Finished images before the gates: scored in micro-batches, kept or refused, and told why."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.contracts import Gate, MadeBatch
from pipeline.errors import JobError, RowError, UnitError
from pipeline.planning.gates import GatePlan
from pipeline.unit.chain import ChainReport, Sample, buckets, out_of_memory

GATE_FAILED = "gate_failed"


@dataclass(frozen=True)
class LoadedGate:
    """A gate on its device."""

    plan: GatePlan
    gate: Gate


def judge(
    gates: Sequence[LoadedGate], samples: Sequence[Sample], classes: Sequence[str], report: ChainReport
) -> list[Sample]:
    """Score every living sample with every gate, in place; return those that are refused.

    The first gate, in the order of the recipe, that refuses a sample is its reason. What an operator rejected is not
    scored. Micro-batches are of the order the samples come in, so they are the same wherever the unit is made.

    Raises:
        UnitError: a gate failed on every image, so it is not the images that are at fault.
        JobError: a gate cannot judge this branch at all.
    """
    started = time.perf_counter()
    refused: list[Sample] = []
    judged = [sample for sample in samples if sample.alive]
    for loaded in gates:
        scored = [sample for sample in judged if sample.error is None]
        for bucket in buckets(scored, _shapes):
            for first in range(0, len(bucket), loaded.gate.micro_batch):
                _score(loaded, bucket[first : first + loaded.gate.micro_batch], classes, report)
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
    """Whether a gate keeps an image of this score. Compared as it is stored, in float32; NaN is refused."""
    least, most = (np.float32(bound) for bound in gate.bounds)
    return bool(least <= np.float32(score) <= most)


def _shapes(sample: Sample) -> object:
    assert sample.pixels is not None
    return sample.pixels.shape, sample.shape


def _score(loaded: LoadedGate, samples: Sequence[Sample], classes: Sequence[str], report: ChainReport) -> None:
    """Score samples of one size; where a call fails, halve it: memory runs out less, and one bad image is named."""
    scores = None
    try:
        scores = loaded.gate.score(_batch(samples, classes))
    except JobError:
        raise
    except Exception as error:
        report.exact = False
        if len(samples) == 1 and out_of_memory(error):
            raise UnitError(f"{loaded.gate.name}: out of memory with a single image: {error}") from error
        if len(samples) == 1:
            samples[0].error = RowError(GATE_FAILED, f"{loaded.gate.name}: {type(error).__name__}: {error}")
            return
    if scores is None:  # as in `chain`: the failed call's tensors are gone with its error
        middle = len(samples) // 2
        for half in (samples[:middle], samples[middle:]):
            _score(loaded, half, classes, report)
        return
    for sample, score in zip(samples, scores, strict=True):
        sample.scores.append({"gate": loaded.gate.name, "score": float(score)})


def _batch(samples: Sequence[Sample], classes: Sequence[str]) -> MadeBatch:
    return MadeBatch(
        images=np.stack([sample.pixels for sample in samples if sample.pixels is not None]),
        sources=None if samples[0].shape is None else np.stack([s.origin for s in samples if s.origin is not None]),
        labels=np.array([sample.label for sample in samples], np.int64),
        classes=classes,
        prompts=[_prompt(sample) for sample in samples],
    )


def _prompt(sample: Sample) -> str | None:
    """The prompt that was drawn last on a sample's way."""
    drawn = [json.loads(step["params"]).get("prompt") for step in sample.steps]
    return next((prompt for prompt in reversed(drawn) if isinstance(prompt, str)), None)
