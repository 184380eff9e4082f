"""The error budget of a run: how many rows and units may fail before it stops or ends with exit 1.

By branch: beyond `quality.max_quarantined_share` of its selected rows in quarantine a run ends with exit 1; one row
alone is never beyond it, unless the share is 0. At the end all rows count, those of earlier runs as well. Before that
a run stops as soon as the rows still to come cannot bring the branch back within its share, and from 1,000 rows on as
soon as it is beyond it. Units: a run stops beyond `quality.max_failed_units`, or, where the recipe leaves that out,
beyond 10, or with 3 failed and none made. None of this is in a unit's digest.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.errors import BudgetError
from pipeline.messages import counted, short_repr
from pipeline.monitoring.progress import reason_counts
from pipeline.plan import Plan
from pipeline.shards.output.counts import CountSums
from schemas.manifest import Counts, Failure, UnitRecord

MIN_ROWS_TO_STOP = 1_000
"""Selected rows of a branch from which on a share beyond the limit stops the run."""
FAILED_UNITS = 10
"""Failed units that do not stop a run, unless the recipe gives `quality.max_failed_units`."""
FAILED_UNITS_WITHOUT_SUCCESS = 3
"""Failed units that stop a run in which none was made, unless the recipe gives a number."""


@dataclass
class _BranchCounts:
    left: int  # source rows of units that did not end yet
    selected: int = 0
    quarantined: int = 0


class Budget:
    """Counts units and rows as units end, and raises BudgetError where a run should stop."""

    def __init__(self, plan: Plan, done: Mapping[str, CountSums]) -> None:
        self._quality = plan.recipe.quality
        self._counts = {branch.name: _BranchCounts(left=plan.units_in(branch.name).rows) for branch in plan.branches}
        self._failed = 0  # in this run: units that failed in earlier ones are tried again
        self._made = 0
        for name, sums in done.items():
            self._count(name, sums)

    def check(self) -> None:
        """Raise BudgetError where failures so far are beyond the budget."""
        self._check_units()
        for name, counts in self._counts.items():
            limit = allowed(self._quality.max_quarantined_share, counts.selected)
            at_best = allowed(self._quality.max_quarantined_share, counts.selected + counts.left)
            too_many = counts.selected >= MIN_ROWS_TO_STOP and counts.quarantined > limit
            if too_many or counts.quarantined > at_best:
                share = self._quality.max_quarantined_share
                raise BudgetError(_beyond(name, counts.quarantined, counts.selected, share), name)

    def add(self, outcome: UnitRecord | Failure) -> None:
        """Count a unit that ended. Raises BudgetError where the run should stop."""
        if isinstance(outcome, Failure):
            self._failed += 1
            self._counts[outcome.branch].left -= outcome.rows
        else:
            made = CountSums()
            made.add(outcome)
            self._count(outcome.branch, made)
        self.check()

    def _count(self, branch: str, made: CountSums) -> None:
        self._made += made.units
        counts = self._counts[branch]
        counts.left -= made.rows
        counts.selected += made.selected
        counts.quarantined += made.quarantined

    def _check_units(self) -> None:
        failed, limit = self._failed, self._quality.max_failed_units
        if limit is None:
            limit = FAILED_UNITS if self._made else min(FAILED_UNITS, FAILED_UNITS_WITHOUT_SUCCESS - 1)
        if failed > limit:
            made = f"{self._made} made" if self._made else "none made"
            raise BudgetError(
                f"{counted(failed, 'unit')} failed and {made}: more than quality.max_failed_units ({limit}) allows; "
                "mend what they say, or raise it; the same command then goes on"
            )


def allowed(share: float, selected: int) -> int:
    """Return how many of `selected` rows may be in quarantine."""
    return max(int(share * selected + 1e-9), 1) if share > 0 else 0  # 0.29 x 100 is a little less than 29


def check_result(plan: Plan, branches: Mapping[str, Counts]) -> None:
    """Raise BudgetError where a branch with all its units is beyond its share of quarantined rows, or made no image.

    Under `--limit`, a preview, a branch whose `where` matches nothing is let pass where another made something.
    """
    share = plan.recipe.quality.max_quarantined_share
    planned = {branch.name: plan.units_in(branch.name).units for branch in plan.branches}
    for name, counts in branches.items():
        if counts.units == planned[name] and counts.accepted and counts.quarantined > allowed(share, counts.selected):
            raise BudgetError(_beyond(name, counts.quarantined, counts.selected, share), name)
    some = any(counts.accepted for counts in branches.values())
    for branch in plan.branches:
        counts = branches[branch.name]
        excused = plan.limit is not None and some and not counts.selected
        if counts.units == planned[branch.name] and not counts.accepted and not excused:
            why = _nothing(plan, branch.name, counts)
            raise BudgetError(f"branch {branch.name!r} made nothing: {why}", branch.name)


def _beyond(name: str, quarantined: int, selected: int, share: float) -> str:
    return (
        f"branch {name!r}: {quarantined} of {selected} rows ({quarantined / max(1, selected):.1%}) are in quarantine, "
        f"beyond quality.max_quarantined_share ({share:g}); mend the input or the operator and use a new output, or "
        "raise it to accept them: the same command then goes on"
    )


def _nothing(plan: Plan, name: str, counts: Counts) -> str:
    rows = plan.units_in(name).rows
    if not rows:
        return "there is no row to make anything of"
    if not counts.selected:
        return _unmatched(plan, name, rows)
    reasons = []
    if counts.quarantined:
        reasons.append(f"{counts.quarantined} of {counts.selected} rows are in quarantine: {_why(counts, False)}")
    if counts.rejected:
        reasons.append(f"{counts.rejected} of {counts.asked} images were rejected: {_why(counts, True)}")
    return "; ".join(reasons) + "; mend that and use a new output"


def _unmatched(plan: Plan, name: str, rows: int) -> str:
    """Return the conditions of the recipe that none of a branch's rows match, and what to change, as text."""
    where = next((branch.where for branch in plan.recipe.branches if branch.name == name), None)
    conditions = [f"its where, {short_repr(where)}"] if where else []
    if plan.recipe.input.split is not None:
        conditions.append(f"input.split: {plan.recipe.input.split}")
    taken, remedy = (f"the first {rows} rows (--limit)", "raise it") if plan.limit else (f"{rows} rows", "change it")
    return f"{' with '.join(conditions)}, matches none of {taken}; {remedy}, or leave the branch out"


def _why(counts: Counts, rejected: bool) -> str:
    reasons = counts.reasons if rejected else counts.quarantine_reasons
    return reason_counts(reasons) or ("see rejected/" if rejected else "see quarantine/")
