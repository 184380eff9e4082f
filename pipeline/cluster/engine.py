"""The Ray executor: a pool of actors for each branch, fed by Ray Data; only markers and failures come back."""

import contextlib
import gc
import logging
import uuid
import warnings
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any

import ray
import ray.data
import ray.exceptions
from ray.data import ActorPoolStrategy, DataContext

from pipeline.cluster.actor import UnitActor, block_row
from pipeline.cluster.ledger import DEATHS, Ledger
from pipeline.cluster.node_capacity import node_capacities
from pipeline.cluster.scheduling import LONGEST_BLOCK, Pool, blocks_of, scheduling_groups
from pipeline.cluster.watchdog import is_lost
from pipeline.errors import JobError, RunError
from pipeline.execution.job import Job
from pipeline.monitoring.stopping import RESUMES, stoppable
from pipeline.plan import BranchPlan, Unit
from pipeline.shards.output.store import LocalStore
from schemas.manifest import Failure, UnitRecord

Outcomes = Generator[UnitRecord | Failure, None, None]

SPARE_DEATHS = 10
"""Worker deaths allowed beside those that units may cause, such as the loss of a node."""
STOPPING_ERRORS: dict[str, type[JobError | RunError]] = {"JobError": JobError, "RunError": RunError}
"""Errors in a worker's answer that stop the whole run, by class name."""
MAX_RESTARTS = 1_000
"""How often Ray restarts one actor at most."""


def execute(job: Job, branches: Sequence[BranchPlan], units: Sequence[Unit], key: bytes | None = None) -> Outcomes:
    """Run units on the Ray that this process is connected to; yield each marker or failure as soon as it is known.

    Closing the generator stops the run and its workers at once.

    Args:
        key: the watermark key, for workers whose node has none of its own; it is never an argument of a job.

    Raises:
        JobError: a GPU that was asked for is not there, a branch cannot load, a node does not see the output folder.
        RunError: the storage of the output failed; the workers cannot start or keep dying.
    """
    by_branch = _by_branch(units)
    token = _write_token(job)
    with stoppable():
        try:
            for group in planned_pools(branches, units):
                yield from _run_group(job, group, by_branch, token, key)
        finally:
            if token is not None:
                job.open_store().remove(token)
            # Ray gives object ids of one session again in the next one of this process. A reference of this session
            # that is freed only then would free the other object.
            gc.collect()


def planned_pools(branches: Sequence[BranchPlan], units: Sequence[Unit]) -> list[list[Pool]]:
    """Return the pools that `execute` would make, in the groups that run one after another.

    Raises:
        JobError: a branch asks for GPUs that the cluster does not have.
    """
    return scheduling_groups(
        branches, {name: len(found) for name, found in _by_branch(units).items()}, node_capacities()
    )


def pool_options(pool: Pool, units: int) -> dict[str, Any]:
    """Return the options of `map_batches` for a pool: its size, each actor's CPUs and GPUs, and its restarts."""
    deaths = DEATHS * units + SPARE_DEATHS
    return {
        # One block at a time: a second one would wait behind a slow unit while other actors idle.
        "compute": ActorPoolStrategy(size=pool.actors, max_tasks_in_flight_per_actor=1),
        "num_cpus": pool.cpus,
        "num_gpus": pool.gpus,
        "batch_size": 1,
        "batch_format": "pyarrow",
        "max_restarts": min(MAX_RESTARTS, deaths),
        "max_task_retries": DEATHS * LONGEST_BLOCK + SPARE_DEATHS,
    }


def _by_branch(units: Sequence[Unit]) -> dict[str, list[Unit]]:
    found: dict[str, list[Unit]] = {}
    for unit in units:
        found.setdefault(unit.branch, []).append(unit)
    return found


def _write_token(job: Job) -> str | None:
    """Write a file that every node must see, and return its path; None where the output is an object store."""
    store = job.open_store()
    if not isinstance(store, LocalStore):
        return None
    token = f"_tmp/seen-{uuid.uuid4().hex}"
    store.write(token, b"")
    return token


def _run_group(
    job: Job, group: Sequence[Pool], by_branch: Mapping[str, list[Unit]], token: str | None, key: bytes | None
) -> Outcomes:
    ledger = Ledger.open(key)
    answers = _answers(ray.put(job), group, by_branch, ledger, token)
    with _hide_ray_data_output():
        try:
            for kind, body in answers:
                if kind in STOPPING_ERRORS:
                    raise STOPPING_ERRORS[kind](body)
                yield (
                    UnitRecord.model_validate_json(body) if kind == "UnitRecord" else Failure.model_validate_json(body)
                )
        finally:
            if not is_lost():  # a lost Ray never answers, and this would wait for it
                answers.close()  # lets the actors go; the end of the ledger then ends those that are busy
                ledger.close()


def _answers(
    job: "ray.ObjectRef[Job]",
    group: Sequence[Pool],
    by_branch: Mapping[str, list[Unit]],
    ledger: Ledger,
    token: str | None,
) -> Generator[tuple[str, str], None, None]:
    """Yield the workers' answers, each as the name of its class and its text."""
    with DataContext.current(_context()):
        datasets = [_dataset(pool, by_branch[pool.branch.name], job, ledger, token) for pool in group]
        dataset = datasets[0].union(*datasets[1:]) if len(datasets) > 1 else datasets[0]
        try:
            for bundle in dataset.iter_internal_ref_bundles():
                for block in bundle.block_refs:
                    table = ray.get(block)
                    yield from zip(table["kind"].to_pylist(), table["body"].to_pylist(), strict=True)
        except (ray.exceptions.RayError, RuntimeError) as error:
            names = ", ".join(pool.branch.name for pool in group)
            raise RunError(f"the workers of {names} cannot go on: {reason_of(error)}; {RESUMES}") from error


def _dataset(
    pool: Pool, units: Sequence[Unit], job: "ray.ObjectRef[Job]", ledger: Ledger, token: str | None
) -> ray.data.Dataset:
    rows, first = [], 0
    for size in blocks_of(len(units), pool.actors):
        rows.append(block_row(units[first : first + size]))
        first += size
    with warnings.catch_warnings():
        # Announced for 2.64, without another way to say how often an actor may die.
        warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
        return ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            UnitActor,
            fn_constructor_kwargs={"job": job, "branch": pool.branch, "ledger": ledger, "token": token},
            **pool_options(pool, len(units)),
        )


def _context() -> DataContext:
    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.target_max_block_size = 1  # every answer is a block of its own, and comes back at once
    context.execution_no_progress_timeout_s = -1  # a unit may take hours
    context.memory_usage_poll_interval_s = None
    return context


@contextlib.contextmanager
def _hide_ray_data_output() -> Iterator[None]:
    """Keep Ray Data's own lines off the console; they stay in its log files."""
    handlers = [handler for handler in logging.getLogger("ray.data").handlers if handler.name == "console"]
    levels = [handler.level for handler in handlers]
    for handler in handlers:
        handler.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for handler, level in zip(handlers, levels, strict=True):
            handler.setLevel(level)


def reason_of(error: BaseException) -> str:
    """Return the last line of the innermost cause of a Ray error that has a text."""
    cause = getattr(error, "cause", None) or error.__cause__
    if isinstance(cause, BaseException) and str(cause).strip():
        return reason_of(cause)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else 'no details'}"
