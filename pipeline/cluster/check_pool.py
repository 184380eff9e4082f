"""`verify` on Ray: its tasks on all processors of a cluster, a few at a time, and their parts in plan order."""

import gc
import hashlib
import socket
import uuid
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import ray

from pipeline.audit.check_tasks import CheckTask, TaskRunner, UnitChecker
from pipeline.audit.verification import Verification
from pipeline.audit.verify import Scope, verify_dataset
from pipeline.audit.watermark_checks import WatermarkChecks
from pipeline.cluster.connection import connect
from pipeline.cluster.driver_actor import DriverActor
from pipeline.cluster.watchdog import is_lost
from pipeline.errors import JobError, PalimpsestError, RunError
from pipeline.messages import error_line
from pipeline.monitoring.stopping import stoppable
from pipeline.publishing.manifest import MANIFEST, read_manifest
from pipeline.shards.output.store import Store, open_store
from schemas.manifest import Manifest

TASKS_A_CPU = 2
"""Tasks that are sent at most for each processor: one that runs, and one that waits."""
ATTEMPTS = 3
"""Further attempts at a task whose process died."""

_ray: Any = ray


@dataclass(frozen=True, eq=False)
class CheckJob:
    """What a process needs to check tasks; the key is asked for at `driver`, and is never an argument.

    Attributes:
        manifest_sha256: of the manifest, for a node that sees another folder at this path.
        psnr_db: of the marks; None where marks are not checked.
        token: by which copies of one job are equal.
    """

    uri: str
    manifest_sha256: str
    psnr_db: float | None
    driver: DriverActor
    token: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CheckJob) and self.token == other.token

    def __hash__(self) -> int:
        return hash(self.token)


def verify_on_ray(store: Store, key: bytes | None, scope: Scope, address: str) -> Verification:
    """Return what `verify_dataset` returns, from the processors of a cluster.

    Args:
        address: as `connect` takes it.

    Raises:
        InputError: there is no data set, or it was marked with another key.
        JobError: there is no cluster, or one of its nodes does not see the data set.
        RunError: the processes that check keep dying.
    """
    with connect(address), stoppable():
        driver = DriverActor.open(key)
        try:

            def runners(manifest: Manifest, marks: WatermarkChecks | None) -> TaskRunner:
                settings = manifest.watermark if marks is not None else None
                psnr_db = None if settings is None else float(settings["psnr_db"])
                job = CheckJob(store.uri, _sha256(store), psnr_db, driver, uuid.uuid4().hex)
                return lambda tasks: _in_order(job, tasks)

            return verify_dataset(store, key, scope, runners)
        finally:
            if not is_lost():
                driver.close()
            gc.collect()


def _in_order(job: CheckJob, tasks: Iterable[CheckTask]) -> Iterator[Verification]:
    """Send tasks, never more at a time than there are processors for, and yield their parts in order."""
    limit = TASKS_A_CPU * max(1, int(_ray.cluster_resources().get("CPU", 1)))
    remote = _ray.remote(num_cpus=1, max_retries=ATTEMPTS)(check_here)
    waiting: deque[Any] = deque()
    left = iter(tasks)
    try:
        while True:
            while len(waiting) < limit and (task := next(left, None)) is not None:
                waiting.append(remote.remote(job, task))
            if not waiting:
                return
            yield _answer(waiting.popleft())
    finally:
        for reference in waiting:
            _ray.cancel(reference, force=True)


def _answer(reference: Any) -> Verification:
    try:
        answer: Verification | PalimpsestError = _ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise RunError(f"a process that checked units failed: {error_line(error.cause)}") from error
    except ray.exceptions.RayError as error:
        raise RunError(f"a process that checked units ended {ATTEMPTS + 1} times: {error_line(error)}") from error
    if isinstance(answer, PalimpsestError):
        raise answer
    return answer


def check_here(job: CheckJob, task: CheckTask) -> Verification | PalimpsestError:
    """Check a task in this process. Errors are returned, because Ray would wrap what is raised."""
    try:
        return _checker(job).check(task)
    except PalimpsestError as error:
        return JobError(str(error)) if type(error).__module__ != PalimpsestError.__module__ else error


@lru_cache(1)
def _checker(job: CheckJob) -> UnitChecker:
    """Return this process's checker, made for its first task.

    Raises:
        JobError: this node sees no such data set, or no key.
    """
    store = open_store(job.uri)
    try:
        same = _sha256(store) == job.manifest_sha256
    except FileNotFoundError:
        same = False
    if not same:
        raise JobError(
            f"node {socket.gethostname()} does not see the data set {job.uri} as the driver does: on several nodes it "
            "must be in a shared folder or an object store (s3://, gs://)"
        )
    key = None if job.psnr_db is None else job.driver.key()
    marks = None if key is None or job.psnr_db is None else WatermarkChecks(key, job.psnr_db)
    return UnitChecker(store, read_manifest(store), marks)


def _sha256(store: Store) -> str:
    return hashlib.sha256(store.read(MANIFEST)).hexdigest()
