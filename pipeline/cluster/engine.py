"""The Ray executor: the units of a run, made by actors on the cluster that this process is connected to."""

import gc
import uuid
from collections.abc import Generator, Sequence
from contextlib import closing

from pipeline.cluster.dispatcher import Dispatcher
from pipeline.cluster.driver_actor import DriverActor
from pipeline.cluster.node_capacity import may_grow, node_capacities
from pipeline.cluster.scheduling import Pool, pools_of
from pipeline.cluster.unit_queue import reading_places, unit_indexes
from pipeline.cluster.watchdog import is_lost
from pipeline.errors import JobError
from pipeline.execution.job import Job
from pipeline.monitoring.stopping import stoppable
from pipeline.plan import BranchPlan
from pipeline.shards.output.store import LocalStore
from pipeline.shards.units import Units
from schemas.manifest import Failure, UnitRecord

AUTOSCALER_WITHIN_S = 15.0
"""Seconds that a cluster without the GPUs, or any CPUs, gets to say that its autoscaler may bring them."""

Outcomes = Generator[UnitRecord | Failure, None, None]


def execute(job: Job, branches: Sequence[BranchPlan], units: Units, key: bytes | None = None) -> Outcomes:
    """Run units on the Ray that this process is connected to; yield each record or failure as soon as it is known.

    Closing the generator stops the run and its workers at once.

    Args:
        units: in columns; each is made when it is sent.
        key: the watermark key, for workers whose node has none of its own; it is never an argument of a job.

    Raises:
        JobError: a GPU that was asked for is not there, a branch cannot load, a node does not see the output folder.
        RunError: the storage of the output failed; the workers cannot start or keep dying.
    """
    indexes = unit_indexes(units)
    places = {name: reading_places(units, own) for name, own in indexes.items()}
    pools = _pools(branches, {name: len(found) for name, found in indexes.items()})
    token = _write_token(job)
    with stoppable():
        try:
            driver = DriverActor.open(key)
            try:
                with closing(Dispatcher(job, pools, units, indexes, places, driver, token).outcomes()) as outcomes:
                    yield from outcomes
            finally:
                if not is_lost():  # a lost Ray never answers, and this would wait for it
                    driver.close()
        finally:
            if token is not None:
                job.open_store().remove(token)
            # Ray gives object ids of one session again in the next one of this process. A reference of this session
            # that is freed only then would free the other object.
            gc.collect()


def planned_pools(branches: Sequence[BranchPlan], units: Units) -> list[Pool]:
    """Return the pools that `execute` would make, each as if the cluster were its own.

    Raises:
        JobError: a branch asks for GPUs that the cluster does not have.
    """
    return _pools(branches, {name: len(found) for name, found in unit_indexes(units).items()})


def _pools(branches: Sequence[BranchPlan], units: dict[str, int]) -> list[Pool]:
    nodes = node_capacities()
    try:
        if any(node.cpus for node in nodes):
            return pools_of(branches, units, nodes, may_grow())
    except JobError:
        if not may_grow(AUTOSCALER_WITHIN_S):
            raise
    return pools_of(branches, units, nodes, may_grow(AUTOSCALER_WITHIN_S))


def _write_token(job: Job) -> str | None:
    """Write a file that every node must see, and return its path; None where the output is an object store."""
    store = job.open_store()
    if not isinstance(store, LocalStore):
        return None
    token = f"_tmp/seen-{uuid.uuid4().hex}"
    store.write(token, b"")
    return token
