"""The worker, which loads a branch and tries each unit up to three times, and the `inline` executor, a loop over it."""

import logging
import time
from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from dataclasses import dataclass

from pipeline.errors import JobError, RunError, UnitError
from pipeline.execution.job import Job, LoadedBranch
from pipeline.execution.runner import run_unit
from pipeline.messages import about_unit, error_line, format_traceback, one_line
from pipeline.plan import BranchPlan, Unit, Units
from pipeline.shards.files.uris import is_local
from pipeline.shards.output.store import Store
from schemas.manifest import Failure, UnitRecord

_log = logging.getLogger(__name__)

UNIT_ATTEMPTS = 3
"""Tries of one unit before its failure is written to `_failed/`."""
PAUSE_S = 2.0
"""Seconds before the second try of a unit whose shard is on a server; each further pause is four times as long."""


@dataclass
class Worker:
    """One branch, loaded once, and the loop that tries a unit. Nothing is loaded before `load`.

    `on_retry` is called before each further try of a unit.
    """

    job: Job
    branch: BranchPlan
    device: str = "cpu"
    key: bytes | None = None
    on_retry: Callable[[], None] = lambda: None
    _loaded: LoadedBranch | None = None

    def load(self) -> None:
        """Load the branch's models onto the device; a second call does nothing."""
        if self._loaded is None:
            self._loaded = LoadedBranch.load(self.job, self.branch, self.device, self.key)

    def run(self, unit: Unit, attempts: int = UNIT_ATTEMPTS) -> UnitRecord | Failure:
        """Return the unit's record, or its failure after `attempts` tries. JobError and RunError end the job."""
        self.load()
        with about_unit(unit.name):
            return self._try(unit, attempts)

    def _try(self, unit: Unit, attempts: int) -> UnitRecord | Failure:
        assert self._loaded is not None
        reason = traceback_text = ""
        remote = unit.shard is not None and not is_local(unit.shard.uri)
        for attempt in range(attempts):
            if attempt and remote:
                time.sleep(PAUSE_S * 4 ** (attempt - 1))
            try:
                return run_unit(self._loaded, unit)
            except (JobError, RunError):
                raise
            except Exception as error:  # whatever a model or a file does, the other units go on
                reason = one_line(error) if isinstance(error, UnitError) else error_line(error)
                traceback_text = format_traceback(error)
                _log_attempt(unit, attempt + 1, attempts, reason, traceback_text)
                if attempt + 1 < attempts:
                    self.on_retry()
        return write_failure(self.job.open_store(), unit, attempts, reason, traceback_text)


def write_failure(store: Store, unit: Unit, attempts: int, error: str, traceback_text: str = "") -> Failure:
    """Write the record of a unit that is not tried again to `_failed/`, and return it."""
    failure = Failure(
        unit=unit.name,
        branch=unit.branch,
        rows=unit.rows,
        digest=unit.digest,
        attempts=attempts,
        error=error,
        traceback=traceback_text,
    )
    store.write(f"_failed/{unit.name}.json", failure.model_dump_json(indent=1).encode())
    return failure


def _log_attempt(unit: Unit, attempt: int, attempts: int, reason: str, traceback_text: str) -> None:
    """Log a try that failed, in the process that made it."""
    fields = {"unit": unit.name, "branch": unit.branch, "attempt": attempt, "attempts": attempts, "error": reason}
    _log.warning(
        "%s", one_line(f"unit {unit.name}: attempt {attempt} of {attempts} failed: {reason}"),
        extra={
            "event": "unit_attempt_failed",
            "fields": {**fields, "traceback": traceback_text},
            "detail": traceback_text,
        },
    )  # fmt: skip


def run_inline(
    job: Job, branches: Iterable[BranchPlan], units: Collection[Unit], key: bytes | None = None
) -> Generator[UnitRecord | Failure, None, None]:
    """Run units one after another in this process.

    Raises:
        JobError: a branch asks for a GPU and this process sees none.
    """
    for branch in branches:
        own = _of_branch(units, branch.name)
        if not own:
            continue
        worker = Worker(job, branch, device_for(branch), key)
        for unit in own:
            yield worker.run(unit)


def _of_branch(units: Collection[Unit], branch: str) -> Sequence[Unit]:
    if isinstance(units, Units):
        return units.of_branch(branch)
    return [unit for unit in units if unit.branch == branch]


def device_for(branch: BranchPlan) -> str:
    """Return the device of a branch: `cuda` where it asks for a share of a GPU, else `cpu`.

    Raises:
        JobError: the branch asks for a GPU, and this process sees none.
    """
    if branch.gpus <= 0:
        return "cpu"
    import torch

    if not torch.cuda.is_available():
        raise JobError(
            f"branch {branch.name!r} asks for {branch.gpus} GPU and this process sees none; "
            f"set resources.{branch.name}.gpus to 0 to run it on the CPU"
        )
    return "cuda"
