"""The account of one unit: what became of every image it was asked for, attempt by attempt, and what gates said."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.execution.gate_scores import keeps
from pipeline.execution.marking import UNMARKABLE
from pipeline.messages import short_repr
from pipeline.plan import BranchPlan
from pipeline.seeding import sample_id, synthetic_id
from schemas.manifest import Marker

Place = tuple[int, int]
"""Of an image in its unit: source row and copy; without sources, index and 0."""


@dataclass(frozen=True)
class Outcome:
    """How one attempt ended: `reason` is None where it was accepted."""

    sample: str
    reason: str | None


class AttemptAccounting:
    """Collects a unit's rows and says which of them cannot be. `seed` is the run's.

    Raises RecipeError where the branch has a gate that this version does not know.
    """

    def __init__(self, marker: Marker, branch: BranchPlan, seed: int) -> None:
        self._marker, self._seed = marker, seed
        self._most = branch.attempts
        self._gates = {planned.gate: planned.make() for planned in branch.gates}
        self._ends: dict[Place, dict[int, Outcome]] = {}
        self._indexes: dict[int, dict[str, int]] = {}
        self._quarantined: dict[int, str] = {}

    def place(self, row: Mapping[str, Any]) -> Place | None:
        """Return the image that a row is an attempt at; None where its sample id does not follow from it."""
        marker, name, attempt = self._marker, row["sample_id"], row["attempt"]
        if marker.shard is not None:
            place = (row["source_row"], row["copy_index"])
            expected = sample_id(self._seed, marker.shard, place[0], marker.branch, place[1], attempt)
            return place if name == expected else None
        if attempt not in self._indexes:
            indexes = range(marker.first, marker.first + marker.rows)
            ids = {synthetic_id(self._seed, marker.branch, marker.label, index, attempt): index for index in indexes}
            self._indexes[attempt] = ids
        index = self._indexes[attempt].get(name)
        return None if index is None else (index, 0)

    def add(self, row: Mapping[str, Any], place: Place) -> Iterator[str]:
        """Note a row of `data/` or `rejected/`; yield what is wrong with its scores."""
        reason = row.get("rejected_reason")
        self._ends.setdefault(place, {})[row["attempt"]] = Outcome(row["sample_id"], reason)
        scores = {score["gate"]: score["score"] for score in row["quality"]}
        judged = reason in (None, UNMARKABLE, *self._gates)
        if list(scores) != (list(self._gates) if judged else []):
            yield f"sample {row['sample_id']}: scored by {list(scores)}, and its gates are {list(self._gates)}"
            return
        refusing = next((name for name, score in scores.items() if not keeps(self._gates[name], score)), None)
        if judged and refusing != (None if reason == UNMARKABLE else reason):
            yield f"sample {row['sample_id']}: by its scores {_ended(refusing)}, and it is {_ended(reason)}"

    def quarantine(self, row: int, code: str) -> Iterator[str]:
        """Note a source row of `quarantine/`; yield where it is there twice."""
        if row in self._quarantined:
            yield f"unit {self._marker.unit}: row {row} is quarantined more than once"
        self._quarantined[row] = code

    def findings(self) -> Iterator[str]:
        """Yield what is wrong with the unit's attempts, once all its rows are noted."""
        marker = self._marker
        reasons: Counter[str | None] = Counter()
        for place, ends in self._ends.items():
            last = ends[max(ends)]
            reasons[last.reason] += 1
            if sorted(ends) != list(range(len(ends))) or len(ends) > self._most:
                yield f"sample {last.sample}: attempts {sorted(ends)} of {self._most} at image {place} are there"
            elif last.reason in self._gates and len(ends) < self._most:
                yield f"sample {last.sample}: refused, and not made again after {len(ends)} of {self._most} attempts"
            for attempt, end in ends.items():
                if end is not last and end.reason not in self._gates:
                    yield f"sample {end.sample}: {_ended(end.reason)}, and attempt {attempt + 1} is there as well"
        for row in sorted({row for row, _ in self._ends} & {*self._quarantined} if marker.shard is not None else ()):
            yield f"unit {marker.unit}: row {row} is quarantined, and images of it are there as well"
        accepted, rejected = reasons.pop(None, 0), reasons.total()
        if (accepted, rejected) != (marker.accepted, marker.rejected):
            yield (
                f"unit {marker.unit}: {marker.accepted} images accepted and {marker.rejected} rejected for good by its "
                f"marker, {accepted} and {rejected} by its rows"
            )
        counted = {"reasons": dict(reasons), "quarantine_reasons": dict(Counter(self._quarantined.values()))}
        for name, rows in counted.items():
            said = getattr(marker, name)
            if name in marker.model_fields_set and said != rows:  # the markers of earlier versions say none
                yield f"unit {marker.unit}: {name} {short_repr(said)} by its marker, {short_repr(rows)} by its rows"


def _ended(reason: str | None) -> str:
    return "accepted" if reason is None else f"rejected ({reason})"
