"""A whole run, on one page: prepare the output, make the units that are missing, publish the data set."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.audit.report import REPORT, write_report
from pipeline.errors import BudgetError, PalimpsestError, RecipeError, StorageError
from pipeline.execution.job import Job
from pipeline.execution.worker import run_inline
from pipeline.lineage.openlineage import load_client
from pipeline.lineage.page import template
from pipeline.monitoring.error_budget import Budget, check_result
from pipeline.monitoring.event_log import EventLog
from pipeline.monitoring.progress import Progress
from pipeline.monitoring.recent_speed import RecentSpeed
from pipeline.plan import Plan, Units
from pipeline.publishing.finalise import finalise
from pipeline.publishing.lease import Lease
from pipeline.publishing.log_writer import LogWriter
from pipeline.publishing.pending_seal import PendingSeal
from pipeline.publishing.prepare import Prepared, prepare
from pipeline.publishing.run_options import EVERYTHING, RunOptions
from pipeline.publishing.seal import SEAL, is_sealed, seal_dataset, sealed_log
from pipeline.shards.output.store import Store, open_store
from schemas.manifest import Failure, Manifest, UnitRecord

_log = logging.getLogger(__name__)

Outcome = UnitRecord | Failure
Listener = Callable[[Outcome], None]

_one_at_a_time = threading.RLock()
"""Held by a run on Ray: one takes a whole cluster."""


def run_plan(
    plan: Plan,
    executor: str,
    address: str,
    key: bytes | None = None,
    progress: bool = True,
    listeners: Sequence[Listener] = (),
    options: RunOptions = EVERYTHING,
) -> Manifest:
    """Make every unit of `plan` that its output does not hold yet, and publish, also where the run is stopped.

    Args:
        progress: show how far it is, on stderr.
        listeners: each is called with every unit that ends, in this thread; what it raises stops the run.
        options: which of its units are made, and whether those of shards that changed are removed.

    Raises:
        RecipeError: the recipe asks for watermarks, and there is no key.
        BudgetError: more failed than the recipe allows, or a branch made nothing; what was made is published.
        StorageError: the storage of the output failed.
    """
    if plan.recipe.watermark != "none" and key is None:
        raise RecipeError(
            "the recipe asks for watermarks: give --key-file FILE (16 bytes or more), PALIMPSEST_KEY or, from Python, "
            "`key=`, or say `watermark: none`"
        )
    options.check(plan)
    store = open_store(plan.output)
    event_log = EventLog(plan, store)
    for note in plan.notes:
        event_log.note(note)
    speed = RecentSpeed()
    with Lease(store, speed.record) as lease:
        pending = PendingSeal(store, key)
        prepared = prepare(plan, store, lease, options.prune, pending.add)
        log = LogWriter(store, prepared.run, lease.check, announce=pending.add)
        run = _Run(plan, store, lease, prepared, log, pending, key)
        budget = Budget(plan, prepared.state.sums)
        chosen = options.chosen(plan.units, prepared.done)
        event_log.run_started(int(prepared.done.sum()), int(chosen.sum()) if options.partial else None)
        shown = Progress(plan, prepared.state.sums, shown=progress)
        stopped: BudgetError | None = None
        try:
            budget.check()
            heard = (shown.add, event_log.unit_ended, speed.add, *listeners, budget.add)
            run.make(chosen, executor, address, shown, heard)
        except BudgetError as error:
            stopped = error
        manifest = run.publish()
        event_log.run_finished(manifest, shown)
        try:
            if stopped is not None:
                raise stopped
            check_result(plan, manifest.branches)
        except BudgetError as error:
            event_log.run_stopped(error, manifest.branches)
            raise
        return manifest


@dataclass(frozen=True)
class _Run:
    """A run in progress."""

    plan: Plan
    store: Store
    lease: Lease
    prepared: Prepared
    log: LogWriter
    pending: PendingSeal
    key: bytes | None

    def make(
        self,
        chosen: npt.NDArray[np.bool_],
        executor: str,
        address: str,
        progress: Progress,
        listeners: Sequence[Listener],
    ) -> None:
        """Make the chosen units of the plan, and call every listener with each that ends.

        `progress` is shown from the first unit to the last, without the start and the end of Ray.

        If anything but the error budget ends it early, what was made is published before the error is raised.
        """
        units = self.plan.units.select(chosen)
        if units and executor != "inline":
            threading.Thread(target=_load_publishing, daemon=True).start()
        try:
            with self.log, outcomes(self.plan, units, executor, address, self.key) as stream, progress:
                for outcome in stream:
                    for listener in (self.log.add, *listeners):
                        listener(outcome)
                    if self.lease.lost:
                        self.lease.check()
        except BudgetError:
            raise
        except BaseException as error:
            with suppress(PalimpsestError):  # the first error is the one that is raised
                self.lease.check()
                self._publish()
            if isinstance(error, StorageError):
                raise StorageError(f"{error}; the same command then goes on where this run ended") from error
            raise

    def publish(self) -> Manifest:
        """Write the manifest, the report and the seal of what is there now."""
        self.lease.check()
        return self._publish(report=True)

    def _publish(self, report: bool = False) -> Manifest:
        pending = self.pending
        sealed = sealed_log(self.store, self.key, pending.segments, pending.add) if self.key is not None else None
        published = finalise(self.plan, self.store, self.prepared.run, self.prepared.pruned, sealed)
        some_made = not self.prepared.done.all()
        if report and (some_made or not self.store.exists(REPORT) or not is_sealed(self.store, REPORT)):
            write_report(self.store, published.manifest, published.log)
        if self.key is not None and sealed is not None:
            seal_dataset(self.store, published.log, self.key, sealed)
        elif self.store.exists(SEAL):
            place = f"{self.store.uri}/{SEAL}"
            _log.warning("%s is of an earlier run with a key; run again with the key to seal this one", place)
        published.log.remove_merged()
        pending.remove()
        return published.manifest


def _load_publishing() -> None:
    """Load what the end of a run needs, while the workers make the units."""
    with suppress(Exception):  # whoever needs it says so
        load_client()
        template()


@contextmanager
def outcomes(plan: Plan, units: Units, executor: str, address: str, key: bytes | None) -> Iterator[Iterator[Outcome]]:
    """Give an iterator of the outcomes of `units`, a record or a failure each; without units, nothing is started.

    Args:
        executor: `inline`: one unit after another in this process; anything else: on Ray.
        address: of the Ray cluster, as `pipeline.cluster.connection.connect` takes it.
    """
    job = Job.of(plan)
    if not units:
        yield iter(())
    elif executor == "inline":
        with closing(run_inline(job, plan.branches, units, key)) as stream:
            yield stream
    else:
        from pipeline.cluster.connection import connect
        from pipeline.cluster.engine import execute
        from pipeline.cluster.metrics_export import exported

        with _one_at_a_time, connect(address), closing(execute(job, plan.branches, units, key)) as stream:
            yield exported(stream, {branch: totals.units for branch, totals in units.totals.items()})
