"""The Ray actor: a process that loads one branch once and makes the units it is sent."""

import os
import pickle
import socket
import threading
import time
from collections.abc import Iterator, Sequence

import pyarrow as pa
import ray

from pipeline.cluster.ledger import DEATHS, Ledger
from pipeline.errors import JobError, RunError
from pipeline.execution.job import Job
from pipeline.execution.worker import Worker, device_for
from pipeline.messages import error_line
from pipeline.plan import BranchPlan, Unit
from pipeline.shards.output.commit import check_digest, marker_path
from pipeline.shards.output.store import Store
from pipeline.watermark_key import key_id, read_key
from schemas.manifest import Failure, UnitRecord

UNITS_COLUMN = "units"
"""Name of a block's one column; its one row holds pickled units."""
GRACE_S = 1.0
"""Seconds a worker may take to end by itself once the run is over; after them it is ended."""


def block_row(units: Sequence[Unit]) -> dict[str, bytes]:
    """Return the row that carries `units` to a worker."""
    return {UNITS_COLUMN: pickle.dumps(tuple(units))}


class UnitActor:
    """A worker of one branch's pool. Its models are loaded with the first block.

    Errors are returned as rows like results, because Ray would turn a raised JobError into a traceback of its own.
    """

    def __init__(self, job: "ray.ObjectRef[Job]", branch: BranchPlan, ledger: Ledger, token: str | None) -> None:
        if ledger.is_closed():  # Ray starts a worker that ended again, for as long as anybody holds its handle
            ray.actor.exit_actor()  # type: ignore[no-untyped-call]
        self._job = ray.get(job)
        self._branch = branch
        self._ledger = ledger
        self._token = token
        self._worker: Worker | None = None
        threading.Thread(target=_exit_with, args=(ledger,), daemon=True).start()

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        """Yield one row for each unit as soon as it ends; a block that Ray retries yields as many rows again."""
        for units in batch[UNITS_COLUMN].to_pylist():
            for unit in pickle.loads(units):  # noqa: S301 - the driver's own
                try:
                    yield answer_row(self.run(unit))
                except (JobError, RunError) as error:
                    yield answer_row(error)

    def run(self, unit: Unit) -> UnitRecord | Failure:
        """Return the unit's marker or failure; a unit that is committed already is not made again.

        Raises:
            JobError: the branch cannot load, the output is not visible here, the unit belongs to another plan.
        """
        worker = self._worker or self._load()
        store = self._job.open_store()
        if store.exists(marker_path(unit.name)):  # a block comes again when its worker died
            marker = UnitRecord.model_validate_json(store.read(marker_path(unit.name)))
            check_digest(marker, unit.digest)
            return marker
        deaths = self._ledger.start(unit.name)
        if deaths >= DEATHS:
            return record_excluded_unit(store, unit, deaths)
        ended = worker.run(unit)
        self._ledger.finish(unit.name)
        return ended

    def _load(self) -> Worker:
        work = f"load {ray.get_runtime_context().get_actor_id()}"  # the same after a restart
        if (deaths := self._ledger.start(work)) >= DEATHS:
            raise JobError(
                f"branch {self._branch.name!r}: a worker died {deaths} times while it loaded the models, on node "
                f"{socket.gethostname()}: too little memory, or a fault in native code; "
                f"lower resources.{self._branch.name}.actors or look into Ray's logs there"
            )
        if self._token is not None:
            require_token(self._job.open_store(), self._token)
        worker = Worker(self._job, self._branch, device_for(self._branch), self._key())
        try:
            worker.load()
        except (JobError, RunError):
            raise
        except Exception as error:
            raise JobError(f"branch {self._branch.name!r} cannot load: {error_line(error)}") from error
        self._ledger.finish(work)
        self._worker = worker
        return worker

    def _key(self) -> bytes | None:
        """Return the watermark key: from this node where it has the run's key, else from the ledger."""
        if self._job.key_id is None:
            return None
        own = read_key(None)
        return own if own is not None and key_id(own) == self._job.key_id else self._ledger.key()


def _exit_with(ledger: Ledger) -> None:
    """Wait until the run's ledger is closed or lost, then end this process, even while it is busy."""
    ledger.wait()
    time.sleep(GRACE_S)
    os._exit(0)


def require_token(store: Store, token: str) -> None:
    """Raise JobError where this node does not see the driver's file: its output folder is another disk."""
    if not store.exists(token):
        raise JobError(
            f"node {socket.gethostname()} does not see the output folder {store.uri} that the driver writes to: "
            "on several nodes output.uri must be a shared folder or an object store (s3://, gs://)"
        )


def record_excluded_unit(store: Store, unit: Unit, deaths: int) -> Failure:
    """Write and return the failure of a unit that is not tried again, since `deaths` workers died of it."""
    failure = Failure(
        unit=unit.name,
        digest=unit.digest,
        attempts=deaths,
        error=f"its worker process died {deaths} times (killed, out of memory, or a fault in native code)",
    )
    store.write(f"_failed/{unit.name}.json", failure.model_dump_json(indent=1).encode())
    return failure


def answer_row(answer: UnitRecord | Failure | JobError | RunError) -> pa.Table:
    """Return a table of one row, the columns `kind` and `body`, that carries an answer to the driver."""
    if isinstance(answer, Exception):
        kind = RunError if isinstance(answer, RunError) else JobError
        return pa.table({"kind": [kind.__name__], "body": [str(answer)]})
    return pa.table({"kind": [type(answer).__name__], "body": [answer.model_dump_json()]})
