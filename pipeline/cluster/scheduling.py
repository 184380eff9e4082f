"""How many actors each branch gets, which pools of actors run together, and how units are put into blocks. No Ray."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.errors import JobError
from pipeline.plan import BranchPlan

SPARE_CPUS = 2.0
"""Logical CPUs that no actor takes; Ray Data needs some itself, and starts actors late on a full cluster."""
LONGEST_BLOCK = 32
"""Units in a block at most; the whole block is sent again where its worker dies."""
BLOCKS_AN_ACTOR = 4
"""Blocks into which an actor's share of the remaining units is divided at least."""
SMALLEST_CPU_SHARE = 0.01


@dataclass(frozen=True)
class NodeCapacity:
    """Logical CPUs and GPUs of one node of the cluster."""

    cpus: float
    gpus: float = 0.0


@dataclass(frozen=True)
class Pool:
    """The actors of one branch; `cpus` and `gpus` are those of each actor."""

    branch: BranchPlan
    actors: int
    cpus: float
    gpus: float


def blocks_of(units: int, actors: int) -> list[int]:
    """Return how many units each block holds, in order: many at first, one each towards the end.

    There are at least min(units, actors) blocks, so every actor gets one.
    """
    blocks = []
    while units > 0:
        block = min(LONGEST_BLOCK, -(-units // (BLOCKS_AN_ACTOR * actors)))
        blocks.append(block)
        units -= block
    return blocks


def scheduling_groups(
    branches: Iterable[BranchPlan], units: Mapping[str, int], nodes: Sequence[NodeCapacity]
) -> list[list[Pool]]:
    """Return the pools, in groups that fit into the cluster together; the groups run one after another.

    A branch with a number of actors gets exactly that many (never more than units): on CPUs they share what there is,
    and missing GPUs are an error. A branch without one gets as many as fit; it runs beside other branches where at
    least half of its actors still fit.

    Args:
        units: by branch name, how many there are to do; a branch without any gets no pool.
        nodes: of the cluster, with those that its autoscaler may add.

    Raises:
        JobError: a branch asks for GPUs that the cluster does not have.
    """
    nodes = _without_spare(nodes)
    todo = [_pool_alone(branch, units[branch.name], nodes) for branch in branches if units.get(branch.name)]
    todo.sort(key=lambda pool: pool.gpus <= 0)  # GPUs first: CPU branches take what they leave
    found = []
    while todo:
        free, group, later = _FreeCapacity(nodes), [], []
        for pool in todo:
            actors = free.actors_that_fit(pool)
            flexible = pool.branch.actors is None and pool.gpus <= 0 and 2 * actors >= pool.actors
            if actors == pool.actors or flexible:
                free.take(pool, actors)
                group.append(Pool(pool.branch, actors, pool.cpus, pool.gpus))
            else:
                later.append(pool)
        found.append(group)
        todo = later
    return found


def _pool_alone(branch: BranchPlan, units: int, nodes: Sequence[NodeCapacity]) -> Pool:
    """Return the pool that `branch` gets in an empty cluster."""
    wanted = units if branch.actors is None else min(branch.actors, units)
    if branch.gpus > 0:
        on_gpus = _FreeCapacity(nodes).actors_that_fit(Pool(branch, wanted, 0.0, branch.gpus))
        if on_gpus < (1 if branch.actors is None else wanted):
            raise JobError(_missing(branch, wanted, on_gpus, nodes))
        wanted = on_gpus
    elif branch.actors is None:
        wanted = max(1, _FreeCapacity(nodes).actors_that_fit(Pool(branch, wanted, branch.cpus, 0.0)))
    cpus = branch.cpus
    while (
        cpus > SMALLEST_CPU_SHARE
        and _FreeCapacity(nodes).actors_that_fit(Pool(branch, wanted, cpus, branch.gpus)) < wanted
    ):
        cpus = round(cpus / 2, 4)
    return Pool(branch, wanted, cpus if cpus > SMALLEST_CPU_SHARE else 0.0, branch.gpus)


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


def _without_spare(nodes: Sequence[NodeCapacity]) -> list[NodeCapacity]:
    """Return the nodes with `SPARE_CPUS` less on the largest one, which keeps at least one CPU."""
    left = list(nodes)
    if left:
        largest = max(range(len(left)), key=lambda index: left[index].cpus)
        cpus = left[largest].cpus
        left[largest] = NodeCapacity(max(min(cpus, 1.0), cpus - SPARE_CPUS), left[largest].gpus)
    return left


class _FreeCapacity:
    """Free CPUs and GPUs of each node while pools are placed; a share below one GPU stays on one device."""

    def __init__(self, nodes: Sequence[NodeCapacity]) -> None:
        self._cpus = [node.cpus for node in nodes]
        self._gpus = [[1.0] * int(node.gpus) for node in nodes]

    def actors_that_fit(self, pool: Pool) -> int:
        """Return how many of the pool's actors fit now."""
        return min(pool.actors, sum(self._on_node(pool, node) for node in range(len(self._cpus))))

    def take(self, pool: Pool, actors: int) -> None:
        for node in range(len(self._cpus)):
            here = min(actors, self._on_node(pool, node))
            self._cpus[node] -= here * pool.cpus
            for _ in range(here):
                self._take_gpus(node, pool.gpus)
            actors -= here

    def _on_node(self, pool: Pool, node: int) -> int:
        by_cpu = pool.actors if pool.cpus <= 0 else int(self._cpus[node] / pool.cpus + 1e-6)
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
