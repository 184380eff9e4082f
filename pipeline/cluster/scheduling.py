"""How many actors each branch gets, and which of them a cluster has capacity for. No Ray."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.errors import JobError
from pipeline.plan import BranchPlan

SMALLEST_CPU_SHARE = 0.01


@dataclass(frozen=True)
class NodeCapacity:
    """Logical CPUs and GPUs of one node of the cluster."""

    cpus: float
    gpus: float = 0.0


@dataclass(frozen=True)
class Pool:
    """The actors of one branch in a cluster that it has for itself; `cpus` and `gpus` are those of each actor."""

    branch: BranchPlan
    actors: int
    cpus: float
    gpus: float


def pools_of(
    branches: Iterable[BranchPlan], units: Mapping[str, int], nodes: Sequence[NodeCapacity], grows: bool = False
) -> list[Pool]:
    """Return the pools in the order in which they get resources: those on GPUs first, CPUs take what they leave.

    A branch with a number of actors gets that many (never more than units): on CPUs they share what there is, and
    missing GPUs are an error. A branch without one gets as many as fit.

    Args:
        units: by branch name, how many there are to do; a branch without any gets no pool.
        nodes: of the cluster, with those that its autoscaler may add.
        grows: an autoscaler adds further ones, of unknown size and number: every branch gets what it asks for.

    Raises:
        JobError: a branch asks for GPUs that the cluster does not have.
    """
    asking = [branch for branch in branches if units.get(branch.name)]
    if grows:
        found = [Pool(branch, _asked(branch, units[branch.name]), branch.cpus, branch.gpus) for branch in asking]
    else:
        found = [_pool_alone(branch, units[branch.name], nodes) for branch in asking]
    return sorted(found, key=lambda pool: pool.gpus <= 0)


def actors_to_add(
    pools: Sequence[Pool], running: Mapping[str, int], wanted: Mapping[str, int], nodes: Sequence[NodeCapacity]
) -> dict[str, int]:
    """Return how many actors of each branch fit beside those that run, in the order of `pools`.

    Args:
        running: by branch name, how many actors there are; the branch may have more than one pool's worth.
        wanted: by branch name, how many more are of use.
    """
    free = _FreeCapacity(nodes)
    for pool in pools:
        free.take(pool, running.get(pool.branch.name, 0))
    added = {}
    for pool in pools:
        added[pool.branch.name] = free.actors_that_fit(pool, wanted.get(pool.branch.name, 0))
        free.take(pool, added[pool.branch.name])
    return added


def _pool_alone(branch: BranchPlan, units: int, nodes: Sequence[NodeCapacity]) -> Pool:
    """Return the pool that `branch` gets in an empty cluster."""
    wanted = _asked(branch, units)
    if branch.gpus > 0:
        on_gpus = _FreeCapacity(nodes).actors_that_fit(Pool(branch, wanted, 0.0, branch.gpus), wanted)
        if on_gpus < (1 if branch.actors is None else wanted):
            raise JobError(_missing(branch, wanted, on_gpus, nodes))
        wanted = on_gpus
    elif branch.actors is None:
        wanted = max(1, _FreeCapacity(nodes).actors_that_fit(Pool(branch, wanted, branch.cpus, 0.0), wanted))
    cpus = branch.cpus
    while (
        cpus > SMALLEST_CPU_SHARE
        and _FreeCapacity(nodes).actors_that_fit(Pool(branch, wanted, cpus, branch.gpus), wanted) < wanted
    ):
        cpus = round(cpus / 2, 4)
    return Pool(branch, wanted, cpus if cpus > SMALLEST_CPU_SHARE else 0.0, branch.gpus)


def _asked(branch: BranchPlan, units: int) -> int:
    return units if branch.actors is None else min(branch.actors, units)


def _missing(branch: BranchPlan, wanted: int, found: int, nodes: Sequence[NodeCapacity]) -> str:
    key = f"resources.{branch.name}"
    gpus = f"{sum(node.gpus for node in nodes):g} GPU"
    if found == 0:
        return (
            f"branch {branch.name!r} asks for {branch.gpus:g} GPU an actor and the cluster has {gpus}: "
            f"set {key}.gpus to 0 to run it on the CPU, or choose a cluster with GPUs (--address)"
        )
    return (
        f"branch {branch.name!r} asks for {wanted} actors with {branch.gpus:g} GPU each and the cluster, with {gpus}, "
        f"has room for {found}: set {key}.actors to {found}, or leave it out to take what there is"
    )


class _FreeCapacity:
    """Free CPUs and GPUs of each node while pools are placed; a share below one GPU stays on one device."""

    def __init__(self, nodes: Sequence[NodeCapacity]) -> None:
        self._cpus = [node.cpus for node in nodes]
        self._gpus = [[1.0] * int(node.gpus) for node in nodes]

    def actors_that_fit(self, pool: Pool, wanted: int) -> int:
        """Return how many of `wanted` actors of a pool fit now."""
        return min(wanted, sum(self._on_node(pool, node, wanted) for node in range(len(self._cpus))))

    def take(self, pool: Pool, actors: int) -> None:
        """Take what `actors` actors hold, as far as there is any."""
        for node in range(len(self._cpus)):
            here = self._on_node(pool, node, actors)
            self._cpus[node] -= here * pool.cpus
            for _ in range(here):
                self._take_gpus(node, pool.gpus)
            actors -= here

    def _on_node(self, pool: Pool, node: int, wanted: int) -> int:
        by_cpu = wanted if pool.cpus <= 0 else min(wanted, int(self._cpus[node] / pool.cpus + 1e-6))
        if pool.gpus <= 0:
            return by_cpu
        if pool.gpus >= 1:
            return min(by_cpu, int(sum(free > 1 - 1e-6 for free in self._gpus[node]) / pool.gpus + 1e-6))
        return min(by_cpu, sum(int(free / pool.gpus + 1e-6) for free in self._gpus[node]))

    def _take_gpus(self, node: int, share: float) -> None:
        devices = self._gpus[node]
        if share >= 1:
            whole = [index for index, free in enumerate(devices) if free > 1 - 1e-6][: int(share)]
            for index in whole:
                devices[index] = 0.0
        elif share > 0:
            fits = [index for index, free in enumerate(devices) if free >= share - 1e-6]
            devices[min(fits, key=lambda index: devices[index])] -= share
