"""A whole run: prepare the output, make the units that are missing, publish. The story of the product on one page."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress

from pipeline.audit.report import REPORT, write_report
from pipeline.errors import BudgetError, PalimpsestError, RecipeError, StorageError
from pipeline.execution.job import Job
from pipeline.execution.worker import run_inline
from pipeline.monitoring.error_budget import Budget, check_result
from pipeline.monitoring.event_log import EventLog
from pipeline.monitoring.progress import Progress
from pipeline.plan import Plan, Unit
from pipeline.publishing.finalise import finalise
from pipeline.publishing.lease import Lease
from pipeline.publishing.prepare import prepare
from pipeline.publishing.seal import SEAL, is_sealed, seal_dataset
from pipeline.shards.output.commit import read_markers
from pipeline.shards.output.store import Store, open_store
from schemas.manifest import Failure, Manifest, Marker

_log = logging.getLogger(__name__)

Outcomes = Iterator[Marker | Failure]
Listener = Callable[[Marker | Failure], None]


def run_plan(
    plan: Plan,
    executor: str,
    address: str,
    key: bytes | None = None,
    progress: bool = True,
    listeners: Sequence[Listener] = (),
) -> Manifest:
    """Make every unit of `plan` that its output does not hold yet, and publish; a run that was stopped as well.

    Args:
        progress: show how far it is, on stderr.
        listeners: each is called with every unit that ends, in this thread; what it raises stops the run.

    Raises:
        RecipeError: the recipe asks for watermarks, and there is no key.
        BudgetError: more failed than the recipe allows, or a branch made nothing; what was made is published.
        StorageError: the output's place failed.
    """
    if plan.recipe.watermark != "none" and key is None:
        raise RecipeError(
            "the recipe asks for watermarks: give --key-file FILE (16 bytes or more), PALIMPSEST_KEY or, from Python, "
            "`key=`, or say `watermark: none`"
        )
    store = open_store(plan.output)
    event_log = EventLog(plan, store)
    for note in plan.notes:
        event_log.noted(note)
    with Lease(store) as lease:
        done = prepare(plan, store, lease)
        budget = Budget(plan, done.values())
        event_log.started(len(done))
        shown = Progress(plan, done.values(), shown=progress)
        stopped: BudgetError | None = None
        try:
            budget.check()
            heard = (shown.add, event_log.ended, *listeners, budget.add)
            _make_missing(plan, done, lease, shown, heard, executor, address, key)
        except BudgetError as error:
            stopped = error
        lease.check()
        manifest = finalise(plan, store)
        if len(done) < len(plan.units) or not store.exists(REPORT) or not is_sealed(store, REPORT):
            write_report(store, manifest)
        _seal(store, key, done)
        event_log.finished(manifest, shown)
        try:
            if stopped is not None:
                raise stopped
            check_result(plan, manifest.branches)
        except BudgetError as error:
            event_log.stopped(error, manifest.branches)
            raise
        return manifest


def _make_missing(
    plan: Plan,
    done: Mapping[str, Marker],
    lease: Lease,
    progress: Progress,
    listeners: Sequence[Listener],
    executor: str,
    address: str,
    key: bytes | None,
) -> None:
    missing = [unit for unit in plan.units if unit.name not in done]
    try:
        with outcomes(Job.of(plan), plan, missing, executor, address, key) as stream, progress:
            for outcome in stream:
                for listener in listeners:
                    listener(outcome)
                if lease.lost:
                    lease.check()
    except BudgetError:
        raise
    except BaseException as error:
        with suppress(PalimpsestError):  # the first error is the one to tell
            lease.check()
            store = open_store(plan.output)
            finalise(plan, store)
            _seal(store, key, done)
        if isinstance(error, StorageError):
            raise StorageError(f"{error}; the same command then goes on where this run ended") from error
        raise


def _seal(store: Store, key: bytes | None, done: Mapping[str, Marker]) -> None:
    if key is not None:
        seal_dataset(store, read_markers(store), key, done)
    elif store.exists(SEAL):
        _log.warning("%s/%s is of an earlier run with a key; run again with the key to seal this one", store.uri, SEAL)


@contextmanager
def outcomes(
    job: Job, plan: Plan, units: list[Unit], executor: str, address: str, key: bytes | None
) -> Iterator[Outcomes]:
    """Give the stream of finished units; nothing is started where none is missing."""
    if not units:
        yield iter(())
    elif executor == "inline":
        with closing(run_inline(job, plan.branches, units, key)) as stream:
            yield stream
    else:
        from pipeline.cluster.connection import connect
        from pipeline.cluster.engine import execute

        with connect(address), closing(execute(job, plan.branches, units, key)) as stream:
            yield stream
