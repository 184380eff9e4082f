"""How many actors each branch gets, which pools run together, and how units are put into blocks."""

import random

import pytest

from pipeline.cluster.node_capacity import nodes_to_come
from pipeline.cluster.scheduling import LONGEST_BLOCK, NodeCapacity, Pool, blocks_of, scheduling_groups
from pipeline.errors import JobError
from pipeline.plan import BranchPlan


def branch(name: str, gpus: float = 0.0, cpus: float = 1.0, actors: int | None = None) -> BranchPlan:
    return BranchPlan(name, (), 1, None, 8, None, gpus, cpus, actors)


def sizes(found: list[list[Pool]]) -> list[dict[str, int]]:
    return [{pool.branch.name: pool.actors for pool in group} for group in found]


@pytest.mark.parametrize("seed", range(20))
def test_blocks_hold_every_unit_once_and_get_shorter(seed: int) -> None:
    draw = random.Random(seed)
    units, actors = draw.randint(1, 20_000), draw.randint(1, 64)
    blocks = blocks_of(units, actors)
    assert sum(blocks) == units
    assert all(1 <= block <= LONGEST_BLOCK for block in blocks)
    assert blocks == sorted(blocks, reverse=True)
    assert len(blocks) >= min(units, actors)
    assert set(blocks[-actors:]) == {1}  # a short tail


def test_a_million_units_are_not_a_million_blocks() -> None:
    assert len(blocks_of(1_000_000, 16)) < 40_000
    assert blocks_of(0, 4) == []
    assert blocks_of(3, 8) == [1, 1, 1]


def test_a_branch_without_a_number_gets_every_core_but_the_spare_ones() -> None:
    assert sizes(scheduling_groups([branch("a")], {"a": 100}, [NodeCapacity(6)])) == [{"a": 4}]
    assert sizes(scheduling_groups([branch("a", cpus=2)], {"a": 100}, [NodeCapacity(6)])) == [{"a": 2}]
    assert sizes(scheduling_groups([branch("a")], {"a": 3}, [NodeCapacity(16)])) == [{"a": 3}]  # never more than units
    assert sizes(scheduling_groups([branch("a")], {"a": 9}, [NodeCapacity(1)])) == [{"a": 1}]


def test_a_number_is_kept_and_cpus_are_shared() -> None:
    (pool,) = scheduling_groups([branch("a", actors=8)], {"a": 100}, [NodeCapacity(4)])[0]
    assert (pool.actors, pool.cpus) == (8, 0.25)


def test_branches_that_fit_run_together_and_others_wait() -> None:
    found = scheduling_groups([branch("a", actors=2), branch("b", actors=2)], {"a": 9, "b": 9}, [NodeCapacity(6)])
    assert sizes(found) == [{"a": 2, "b": 2}]
    found = scheduling_groups([branch("a", actors=3), branch("b", actors=2)], {"a": 9, "b": 9}, [NodeCapacity(6)])
    assert sizes(found) == [{"a": 3}, {"b": 2}]
    assert scheduling_groups([branch("a"), branch("b")], {"a": 0}, [NodeCapacity(6)]) == []


def test_a_cpu_branch_runs_beside_a_gpu_branch() -> None:
    found = scheduling_groups(
        [branch("light"), branch("heavy", gpus=1)], {"light": 50, "heavy": 50}, [NodeCapacity(10, 2)]
    )
    assert sizes(found) == [{"heavy": 2, "light": 6}]


def test_gpu_shares_stay_on_one_device() -> None:
    assert sizes(scheduling_groups([branch("a", gpus=0.3)], {"a": 99}, [NodeCapacity(32, 2)])) == [
        {"a": 6}
    ]  # 3 a device, not 6.67
    assert sizes(scheduling_groups([branch("a", gpus=2)], {"a": 99}, [NodeCapacity(8, 3), NodeCapacity(8, 3)])) == [
        {"a": 2}
    ]
    two = scheduling_groups(
        [branch("a", gpus=0.5, actors=2), branch("b", gpus=0.6, actors=1)], {"a": 9, "b": 9}, [NodeCapacity(9, 1)]
    )
    assert sizes(two) == [{"a": 2}, {"b": 1}]


def test_few_cpus_do_not_keep_gpus_idle() -> None:
    (pool,) = scheduling_groups([branch("a", gpus=1)], {"a": 99}, [NodeCapacity(4, 8)])[0]
    assert (pool.actors, pool.cpus) == (8, 0.25)


def test_a_missing_gpu_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(
        JobError,
        match=r"'edited' asks for 1 GPU an actor and the cluster has 0 GPU: set "
        r"resources\.edited\.gpus to 0",
    ):
        scheduling_groups([branch("edited", gpus=1)], {"edited": 5}, [NodeCapacity(8)])
    with pytest.raises(JobError, match=r"4 actors with 1 GPU each and the cluster, with 2 GPU, has room for 2"):
        scheduling_groups([branch("edited", gpus=1, actors=4)], {"edited": 5}, [NodeCapacity(8, 2)])


@pytest.mark.parametrize("seed", range(30))
def test_no_wave_takes_more_than_the_cluster_has(seed: int) -> None:
    draw = random.Random(seed)
    nodes = [NodeCapacity(draw.randint(4, 32), draw.choice([0, 1, 4])) for _ in range(draw.randint(1, 4))]
    nodes.append(NodeCapacity(8, 2))
    branches = [
        branch(f"b{i}", draw.choice([0, 0, 0.25, 1]), draw.choice([0.5, 1, 2]), draw.choice([None, 1, 2]))
        for i in range(draw.randint(1, 6))
    ]
    units = {b.name: draw.randint(1, 50) for b in branches}
    found = scheduling_groups(branches, units, nodes)
    assert sorted(pool.branch.name for group in found for pool in group) == sorted(units)
    for group in found:
        assert sum(pool.actors * pool.cpus for pool in group) <= sum(node.cpus for node in nodes) + 1e-6
        assert sum(pool.actors * pool.gpus for pool in group) <= sum(node.gpus for node in nodes) + 1e-6
        assert all(1 <= pool.actors <= units[pool.branch.name] for pool in group)


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
