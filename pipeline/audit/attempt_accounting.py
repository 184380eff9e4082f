"""Attempt accounting of one unit: the outcome of every attempt at every image, against its gate scores and record."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.execution.gate_scores import within
from pipeline.execution.watermarking import UNMARKABLE
from pipeline.messages import short_repr
from pipeline.plan import BranchPlan, GatePlan
from pipeline.seeding import sample_id, synthetic_id
from schemas.manifest import UnitRecord

Place = tuple[int, int]
"""Place of an image in its unit: (source row, copy), or (index, 0) without sources."""


@dataclass(frozen=True)
class AttemptOutcome:
    """The outcome of one attempt: `reason` is that of its rejection, None where it was accepted."""

    sample: str
    reason: str | None


class AttemptAccounting:
    """Collects the rows of a unit, and finds those that contradict the branch's gates and attempts.

    Args:
        seed: of the recipe.

    Raises RecipeError where the branch has a gate that this version does not know.
    """

    def __init__(self, record: UnitRecord, branch: BranchPlan, seed: int) -> None:
        self._record, self._seed = record, seed
        self._max_attempts = branch.attempts
        self._gates = {planned.gate: _bounds(planned) for planned in branch.gates}
        self._outcomes: dict[Place, dict[int, AttemptOutcome]] = {}
        self._indexes: dict[int, dict[str, int]] = {}
        self._quarantined: dict[int, str] = {}

    def place(self, row: Mapping[str, Any]) -> Place | None:
        """Return the place of a row's image; None where the sample id does not follow from seed, place and attempt."""
        record, name, attempt = self._record, row["sample_id"], row["attempt"]
        if record.shard is not None:
            place = (row["source_row"], row["copy_index"])
            expected = sample_id(self._seed, record.shard, place[0], record.branch, place[1], attempt)
            return place if name == expected else None
        if attempt not in self._indexes:
            indexes = range(record.first, record.first + record.rows)
            ids = {synthetic_id(self._seed, record.branch, record.label, index, attempt): index for index in indexes}
            self._indexes[attempt] = ids
        index = self._indexes[attempt].get(name)
        return None if index is None else (index, 0)

    def add(self, row: Mapping[str, Any], place: Place) -> Iterator[str]:
        """Add a row of `data/` or `rejected/`; yield findings about its gate scores."""
        reason = row.get("rejected_reason")
        outcomes = self._outcomes.setdefault(place, {})
        if row["attempt"] in outcomes:
            yield f"sample {row['sample_id']}: more than once"
        outcomes[row["attempt"]] = AttemptOutcome(row["sample_id"], reason)
        scores = {score["gate"]: score["score"] for score in row["quality"]}
        scored = reason in (None, UNMARKABLE, *self._gates)
        if list(scores) != (list(self._gates) if scored else []):
            yield f"sample {row['sample_id']}: scored by {list(scores)}, and its gates are {list(self._gates)}"
            return
        refusing = next((name for name, score in scores.items() if not within(self._gates[name], score)), None)
        if scored and refusing != (None if reason == UNMARKABLE else reason):
            expected, actual = _outcome_text(refusing), _outcome_text(reason)
            yield f"sample {row['sample_id']}: by its scores {expected}, and it is {actual}"

    def quarantine(self, row: int, code: str) -> Iterator[str]:
        """Add a row of `quarantine/` by its source row and error code; yield a finding where it was added before."""
        if row in self._quarantined:
            yield f"unit {self._record.unit}: row {row} is quarantined more than once"
        self._quarantined[row] = code

    def findings(self) -> Iterator[str]:
        """Yield findings about attempts and counts, once all rows of the unit are added."""
        record = self._record
        reasons: Counter[str | None] = Counter()
        for place, outcomes in self._outcomes.items():
            last = outcomes[max(outcomes)]
            reasons[last.reason] += 1
            count, limit = len(outcomes), self._max_attempts
            if sorted(outcomes) != list(range(count)) or count > limit:
                yield f"sample {last.sample}: attempts {sorted(outcomes)} of {limit} at image {place} are there"
            elif last.reason in self._gates and count < limit:
                yield f"sample {last.sample}: refused, and not made again after {count} of {limit} attempts"
            for attempt, outcome in outcomes.items():
                if outcome is not last and outcome.reason not in self._gates:
                    how = _outcome_text(outcome.reason)
                    yield f"sample {outcome.sample}: {how}, and attempt {attempt + 1} is there as well"
        for row in sorted(
            {row for row, _ in self._outcomes} & {*self._quarantined} if record.shard is not None else ()
        ):
            yield f"unit {record.unit}: row {row} is quarantined, and images of it are there as well"
        accepted, rejected = reasons.pop(None, 0), reasons.total()
        if (accepted, rejected) != (record.accepted, record.rejected):
            yield (
                f"unit {record.unit}: {record.accepted} images accepted and {record.rejected} rejected for good by its "
                f"record, {accepted} and {rejected} by its rows"
            )
        counted = {"reasons": dict(reasons), "quarantine_reasons": dict(Counter(self._quarantined.values()))}
        for name, rows in counted.items():
            recorded = getattr(record, name)
            if recorded != rows:
                yield f"unit {record.unit}: {name} {short_repr(recorded)} by its record, {short_repr(rows)} by its rows"


def _bounds(gate: GatePlan) -> tuple[float, float]:
    """Return a gate's bounds: of a built-in one by its parameters, else as the manifest states; no code is imported."""
    if gate.package is None:
        return gate.make().bounds
    if gate.bounds is None:
        raise ValueError(f"gate {gate.gate} of {gate.package.short} states no bounds")
    lower, upper = gate.bounds
    return -math.inf if lower is None else float(lower), math.inf if upper is None else float(upper)


def _outcome_text(reason: str | None) -> str:
    return "accepted" if reason is None else f"rejected ({reason})"
