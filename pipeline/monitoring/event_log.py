"""The event log of a run: the driver logs each event once, with Ray and inline alike.

Logger `palimpsest`. A record carries `event`, `fields` (JSON values, the same names in every version) and `detail`
(further lines for a person: a traceback, the summary):

    note            a note of the plan, before the run
    run_started     units, done, output; asked (with --only or --units)
    unit_done       unit, branch, accepted, rejected, quarantined, retried, reasons, quarantine_reasons, seconds
    unit_failed     unit, attempts, error, traceback
    rows_quarantined  branch, code, part, unit, source_uri, source_row, error, traceback: the first row of its kind
    run_stopped     error, causes (at most three, each with kind, error, traceback)
    run_finished    complete, units, failed, accepted, rejected, quarantined, seconds, output
"""

import logging
from collections.abc import Mapping
from typing import Any

from pipeline.errors import BudgetError
from pipeline.execution.row_failures import read_row_failures, row_failure_path
from pipeline.messages import counted, one_line
from pipeline.monitoring.progress import Progress, reason_counts, summary
from pipeline.plan import Plan
from pipeline.shards.output.store import Store
from schemas.manifest import Counts, Failure, Manifest, RowFailure, UnitRecord

log = logging.getLogger("palimpsest")

MAX_CAUSES = 3
"""Causes that the event of a stopped run names at most."""
TRACEBACK_LINES = 8
"""Lines of each traceback that stderr shows; the records in `_failed/` hold all."""


class EventLog:
    """Logs the events of one run."""

    def __init__(self, plan: Plan, store: Store) -> None:
        self._plan, self._store = plan, store
        self._logged: set[tuple[str, str]] = set()  # (branch, error code) of row failures that were logged
        self._failures: list[Failure] = []  # the first `MAX_CAUSES`
        self._partial = False

    def note(self, note: str) -> None:
        """Log one note of the plan, before anything runs."""
        _emit(logging.INFO, "note", note, {})

    def run_started(self, done: int, asked: int | None = None) -> None:
        """Log the start of a run, of whose units `done` were made before.

        Args:
            asked: how many units are made, where the run names branches or units; None: all that are not done.
        """
        units = len(self._plan.units)
        planned = counted(units, "unit")
        text = f"{done} of {units} units are done already" if done else f"{planned} -> {self._plan.output}"
        self._partial = asked is not None
        if asked is not None:
            text = f"{counted(asked, 'unit')} to make, as --only and --units say; {text}"
        fields = {"units": units, "done": done, "output": self._plan.output}
        _emit(logging.INFO, "run_started", text, fields if asked is None else fields | {"asked": asked})

    def unit_ended(self, outcome: UnitRecord | Failure) -> None:
        """Log a unit that ended, and the first row of each new kind of row failure."""
        if isinstance(outcome, Failure):
            if len(self._failures) < MAX_CAUSES:
                self._failures.append(outcome)
            where = f"{self._plan.output}/_failed/{outcome.unit}.json"
            reason = one_line(outcome.error, 200)
            text = f"unit {outcome.unit} failed after {counted(outcome.attempts, 'attempt')}: {reason} ({where})"
            _emit(logging.WARNING, "unit_failed", text, _without(outcome, "digest"), outcome.traceback)
            return
        names = ("unit", "branch", "accepted", "rejected", "quarantined", "retried", "reasons", "quarantine_reasons")
        fields = {name: getattr(outcome, name) for name in (*names, "seconds")}
        why = reason_counts(outcome.reasons | outcome.quarantine_reasons)
        text = (
            f"unit {outcome.unit}: {outcome.accepted} accepted, {outcome.rejected} rejected, "
            f"{counted(outcome.quarantined, 'row')} quarantined{f' ({why})' if why else ''} in {outcome.seconds:.1f} s"
        )
        _emit(logging.INFO, "unit_done", text, fields)
        new = {(outcome.branch, code) for code in outcome.quarantine_reasons} - self._logged
        self._logged |= new
        for kind in read_row_failures(self._store, outcome.branch, [code for _, code in sorted(new)]):
            where = row_failure_path(kind.branch, kind.code, kind.part)
            text = (
                f"branch {kind.branch!r} quarantines rows as {kind.code}, the first is row {kind.source_row} of "
                f"{kind.source_uri}: {one_line(kind.error, 200)} ({self._plan.output}/{where})"
            )
            _emit(logging.WARNING, "rows_quarantined", text, _without(kind), kind.traceback)

    def run_stopped(self, error: BudgetError, branches: Mapping[str, Counts]) -> None:
        """Log why a run failed, with its first causes and their tracebacks."""
        if error.branch is None:
            causes = [_cause(failure.unit, failure.error, failure.traceback) for failure in self._failures]
        else:
            failures = read_row_failures(self._store, error.branch, branches[error.branch].quarantine_reasons)
            causes = [_cause(f"{kind.branch} {kind.code}", kind.error, kind.traceback) for kind in failures]
        causes = causes[:MAX_CAUSES]
        detail = "\n".join(f"{each['kind']}: {each['error']}\n{_short(each['traceback'])}" for each in causes)
        _emit(
            logging.ERROR,
            "run_stopped",
            "the first causes:" if causes else "",
            {"error": str(error), "causes": causes},
            detail,
        )

    def run_finished(self, manifest: Manifest, progress: Progress) -> None:
        """Log the counts of the data set and the summary."""
        counts = manifest.counts
        fields = {
            "complete": manifest.complete,
            "units": counts.units,
            "failed": manifest.failed,
            "accepted": counts.accepted,
            "rejected": counts.rejected,
            "quarantined": counts.quarantined,
            "seconds": round(progress.seconds, 3),
            "output": self._plan.output,
        }
        text = (
            f"{counted(counts.accepted, 'image')} accepted, {counts.rejected} rejected, "
            f"{counted(counts.quarantined, 'row')} quarantined, {counted(len(manifest.failed), 'unit')} failed; "
            f"data set: {self._plan.output}"
        )
        detail = summary(manifest, progress, self._plan.output, self._partial)
        _emit(logging.INFO, "run_finished", text, fields, detail)


def _emit(level: int, event: str, text: str, fields: Mapping[str, Any], detail: str = "") -> None:
    log.log(level, "%s", one_line(text), extra={"event": event, "fields": dict(fields), "detail": detail})


def _without(record: Failure | RowFailure, *names: str) -> dict[str, Any]:
    return record.model_dump(mode="json", exclude=set(names))


def _cause(kind: str, error: str, traceback_text: str) -> dict[str, str]:
    return {"kind": kind, "error": error, "traceback": traceback_text}


def _short(traceback_text: str) -> str:
    lines = traceback_text.splitlines()
    kept = lines if len(lines) <= TRACEBACK_LINES else [lines[0], "  ...", *lines[-TRACEBACK_LINES:]]
    return "\n".join(f"  {line}" for line in kept)
