"""How many actors each branch gets, and which of them a cluster has capacity for."""

import random

import pytest

from pipeline.cluster.node_capacity import nodes_to_come
from pipeline.cluster.scheduling import NodeCapacity, Pool, actors_to_add, pools_of
from pipeline.errors import JobError
from pipeline.plan import BranchPlan


def branch(name: str, gpus: float = 0.0, cpus: float = 1.0, actors: int | None = None) -> BranchPlan:
    return BranchPlan(name, (), 1, None, 8, None, gpus, cpus, actors)


def sizes(found: list[Pool]) -> dict[str, int]:
    return {pool.branch.name: pool.actors for pool in found}


def added(branches: list[BranchPlan], nodes: list[NodeCapacity], running: dict[str, int]) -> dict[str, int]:
    """Return how many actors come beside those that run, where each branch has 50 units that nobody took."""
    units = {branch.name: 50 for branch in branches}
    pools = pools_of(branches, units, nodes)
    wanted = {branch.name: min(50, branch.actors or 50) - running.get(branch.name, 0) for branch in branches}
    return actors_to_add(pools, running, wanted, nodes)


def test_a_branch_without_a_number_gets_every_core() -> None:
    assert sizes(pools_of([branch("a")], {"a": 100}, [NodeCapacity(6)])) == {"a": 6}
    assert sizes(pools_of([branch("a", cpus=2)], {"a": 100}, [NodeCapacity(6), NodeCapacity(3)])) == {"a": 4}
    assert sizes(pools_of([branch("a")], {"a": 3}, [NodeCapacity(16)])) == {"a": 3}  # never more than units
    assert sizes(pools_of([branch("a"), branch("b")], {"a": 0, "b": 2}, [NodeCapacity(1)])) == {"b": 1}


def test_a_number_is_kept_and_cpus_are_shared() -> None:
    (pool,) = pools_of([branch("a", actors=8)], {"a": 100}, [NodeCapacity(4)])
    assert (pool.actors, pool.cpus) == (8, 0.5)


def test_a_cluster_that_grows_gives_every_branch_what_it_asks_for() -> None:
    branches = [branch("a", actors=8, cpus=2), branch("b", gpus=0.25), branch("c")]
    found = pools_of(branches, {"a": 100, "b": 100, "c": 3}, [NodeCapacity(0)], grows=True)
    assert [(pool.branch.name, pool.actors, pool.cpus, pool.gpus) for pool in found] == [
        ("b", 100, 1, 0.25),
        ("a", 8, 2, 0),  # whole, though no node is there
        ("c", 3, 1, 0),
    ]


def test_branches_that_fit_run_together_and_others_take_what_is_freed() -> None:
    nodes = [NodeCapacity(4)]
    both = [branch("a", actors=2), branch("b", actors=2)]
    assert added(both, nodes, {}) == {"a": 2, "b": 2}
    both = [branch("a", actors=3), branch("b", actors=2)]
    assert added(both, nodes, {}) == {"a": 3, "b": 1}
    assert added(both, nodes, {"a": 3, "b": 1}) == {"a": 0, "b": 0}
    assert added(both, nodes, {"a": 2, "b": 1}) == {"a": 1, "b": 0}  # one of a died: b does not take its place
    assert added([branch("a"), branch("b")], nodes, {}) == {"a": 4, "b": 0}
    ended = pools_of([branch("a"), branch("b")], {"a": 50, "b": 50}, nodes)
    assert actors_to_add(ended, {"a": 1}, {"b": 50}, nodes) == {"a": 0, "b": 3}  # a has three idle actors less


def test_a_node_that_comes_is_used_and_one_that_goes_frees_nothing() -> None:
    one, two = [NodeCapacity(4)], [NodeCapacity(4), NodeCapacity(2)]
    assert added([branch("a")], one, {"a": 4}) == {"a": 0}
    pools = pools_of([branch("a")], {"a": 50}, one)
    assert actors_to_add(pools, {"a": 4}, {"a": 46}, two) == {"a": 2}
    assert actors_to_add(pools, {"a": 6}, {"a": 44}, one) == {"a": 0}
    assert actors_to_add(pools, {"a": 6}, {"a": 44}, []) == {"a": 0}


def test_a_cpu_branch_runs_beside_a_gpu_branch() -> None:
    branches, nodes = [branch("light"), branch("heavy", gpus=1)], [NodeCapacity(8, 2)]
    assert sizes(pools_of(branches, {"light": 50, "heavy": 50}, nodes)) == {"heavy": 2, "light": 8}
    assert added(branches, nodes, {}) == {"heavy": 2, "light": 6}


def test_gpu_shares_stay_on_one_device() -> None:
    nodes = [NodeCapacity(32, 2)]
    assert sizes(pools_of([branch("a", gpus=0.3)], {"a": 99}, nodes)) == {"a": 6}  # 3 a device, not 6.67
    large = [NodeCapacity(8, 3), NodeCapacity(8, 3)]
    assert sizes(pools_of([branch("a", gpus=2)], {"a": 99}, large)) == {"a": 2}
    two = [branch("a", gpus=0.5, actors=2), branch("b", gpus=0.6, actors=1)]
    assert added(two, [NodeCapacity(9, 1)], {}) == {"a": 2, "b": 0}
    assert added(two, [NodeCapacity(9, 1)], {"b": 1}) == {"a": 0, "b": 0}
    assert added([branch(name, gpus=0.25) for name in "abc"], [NodeCapacity(9, 1)], {"b": 1, "c": 1}) == {
        "a": 2, "b": 0, "c": 0,
    }  # fmt: skip


def test_few_cpus_do_not_keep_gpus_idle() -> None:
    (pool,) = pools_of([branch("a", gpus=1)], {"a": 99}, [NodeCapacity(4, 8)])
    assert (pool.actors, pool.cpus) == (8, 0.5)


def test_a_missing_gpu_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(
        JobError,
        match=r"'edited' asks for 1 GPU an actor and the cluster has 0 GPU: set "
        r"resources\.edited\.gpus to 0",
    ):
        pools_of([branch("edited", gpus=1)], {"edited": 5}, [NodeCapacity(8)])
    with pytest.raises(JobError, match=r"4 actors with 1 GPU each and the cluster, with 2 GPU, has room for 2"):
        pools_of([branch("edited", gpus=1, actors=4)], {"edited": 5}, [NodeCapacity(8, 2)])


@pytest.mark.parametrize("seed", range(30))
def test_actors_never_take_more_than_the_cluster_has_and_never_all_wait(seed: int) -> None:
    draw = random.Random(seed)
    nodes = [NodeCapacity(draw.randint(4, 32), draw.choice([0, 1, 4])) for _ in range(draw.randint(1, 4))]
    nodes.append(NodeCapacity(8, 2))
    branches = [
        branch(f"b{i}", draw.choice([0, 0, 0.25, 1]), draw.choice([0.5, 1, 2]), draw.choice([None, 1, 2]))
        for i in range(draw.randint(1, 6))
    ]
    left = {b.name: draw.randint(1, 50) for b in branches}
    pools = pools_of(branches, left, nodes)
    running = dict.fromkeys(left, 0)
    while any(left.values()):
        wanted = {b.name: max(0, min(left[b.name], b.actors or 50) - running[b.name]) for b in branches}
        for name, count in actors_to_add(pools, running, wanted, nodes).items():
            running[name] += count
        held = [(pool, running[pool.branch.name]) for pool in pools]
        assert sum(count * pool.cpus for pool, count in held) <= sum(node.cpus for node in nodes) + 1e-6
        assert sum(count * pool.gpus for pool, count in held) <= sum(node.gpus for node in nodes) + 1e-6
        busy = [name for name in running if running[name]]
        assert busy
        ends = draw.choice(busy)  # an actor makes the branch's last units, or one of them and goes
        left[ends] = max(0, left[ends] - draw.choice([1, 50]))
        running[ends] = running[ends] - 1 if left[ends] else 0


def test_nodes_that_an_autoscaler_may_start_count() -> None:
    cluster_file = {
        "max_workers": 8,
        "head_node_type": "head",
        "available_node_types": {
            "head": {"resources": {"CPU": 0}, "max_workers": 0},
            "gpu": {"resources": {"CPU": 8, "GPU": 1}, "min_workers": 0, "max_workers": 3},
        },
    }
    assert nodes_to_come(cluster_file, [NodeCapacity(0)]) == [NodeCapacity(8, 1)] * 3
    assert nodes_to_come(cluster_file, [NodeCapacity(0), NodeCapacity(8, 1)]) == [NodeCapacity(8, 1)] * 2
