"""The Ray actor: a process that loads one branch once and makes the units it is sent, one after another."""

import logging
import os
import socket
import threading
import time

from pipeline import errors
from pipeline.cluster.driver_actor import DriverActor
from pipeline.cluster.metrics_export import add
from pipeline.devices import keep_freed_memory
from pipeline.errors import JobError, RunError
from pipeline.execution.job import Job
from pipeline.execution.worker import Worker, device_for
from pipeline.messages import error_line
from pipeline.monitoring.log_lines import log_as_worker
from pipeline.monitoring.metrics import UNIT_RETRIES
from pipeline.plan import BranchPlan, Unit
from pipeline.shards.columns.python_values import spare_pandas
from pipeline.shards.output.store import Store
from pipeline.watermark_key import key_id, read_key
from schemas.manifest import Failure, UnitRecord

_log = logging.getLogger(__name__)

GRACE_S = 1.0
"""Seconds a worker may take to end by itself once the run is over; after them it is ended."""

StoppingError = JobError | RunError
"""What ends the whole run."""


class UnitActor:
    """A worker of one branch. Errors that end the run are returned, because Ray would wrap what is raised."""

    def __init__(self, job: Job, branch: BranchPlan, driver: DriverActor, token: str | None) -> None:
        self._job = job
        self._branch = branch
        self._driver = driver
        self._token = token
        self._worker: Worker | None = None
        log_as_worker(branch.name)
        keep_freed_memory()
        if all(part.package is None for part in branch.parts):  # whose code may use pandas in any way
            spare_pandas()
        threading.Thread(target=_exit_with, args=(driver,), daemon=True).start()

    def host(self) -> str:
        """Return the name of this worker's node."""
        return socket.gethostname()

    def load(self) -> StoppingError | None:
        """Load the branch. Return the error if it cannot load, or if the output is not visible here."""
        try:
            if self._token is not None:
                require_token(self._job.open_store(), self._token)
            worker = Worker(self._job, self._branch, device_for(self._branch), self._key(), self._count_retry)
            worker.load()
            self._worker = worker
        except (JobError, RunError) as error:
            return portable(error)
        except Exception as error:
            _log.exception("branch %r cannot load", self._branch.name)
            return JobError(f"branch {self._branch.name!r} cannot load: {error_line(error)}")
        return None

    def make(self, unit: Unit) -> UnitRecord | Failure | StoppingError:
        """Return the unit's record or failure."""
        assert self._worker is not None
        try:
            return self._worker.run(unit)
        except (JobError, RunError) as error:
            return portable(error)

    def _count_retry(self) -> None:
        add(UNIT_RETRIES, 1, {"branch": self._branch.name})

    def _key(self) -> bytes | None:
        """Return the watermark key: from this node where it has the run's key, else from the driver."""
        if self._job.key_id is None:
            return None
        own = read_key(None)
        return own if own is not None and key_id(own) == self._job.key_id else self._driver.key()


def _exit_with(driver: DriverActor) -> None:
    """Wait until the run is over or its driver lost, then end this process, even while it is busy."""
    driver.wait()
    time.sleep(GRACE_S)
    os._exit(0)


def require_token(store: Store, token: str) -> None:
    """Raise JobError where this node does not see the driver's file: its output folder is another disk."""
    if not store.exists(token):
        raise JobError(
            f"node {socket.gethostname()} does not see the output folder {store.uri} that the driver writes to: "
            "on several nodes output.uri must be a shared folder or an object store (s3://, gs://)"
        )


def portable(error: StoppingError) -> StoppingError:
    """Return an equal error of a class that every process can import."""
    if type(error) is getattr(errors, type(error).__name__, None):
        return error.with_traceback(None)
    return (JobError if isinstance(error, JobError) else RunError)(str(error))
