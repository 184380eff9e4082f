"""The queue of one branch: the order of its units, and the deaths that they cause."""

import tracemalloc

import numpy as np

from pipeline.cluster.unit_queue import UnitQueue, unit_indexes
from pipeline.plan import Units
from pipeline.shards.units import UnitGroup


def units_of(*branches: tuple[str, int]) -> Units:
    """Return the units of some branches, each with its number of units of ten rows."""
    counts = [(UnitGroup(name), np.arange(0, 10 * count, 10), count) for name, count in branches]
    return Units.of((group, first, np.full(count, 10, np.int32), bytes(32 * count)) for group, first, count in counts)


def test_indexes_are_those_of_each_branch_in_order() -> None:
    units = units_of(("a", 2), ("b", 0), ("c", 3))
    found = unit_indexes(units)
    assert found == {"a": range(2), "c": range(2, 5)}
    assert {name: {units[index].branch for index in indexes} for name, indexes in found.items()} == {
        "a": {"a"}, "c": {"c"},
    }  # fmt: skip
    assert unit_indexes(units.select(np.array([1, 4]))) == {"a": range(1), "c": range(1, 2)}


def test_a_million_units_cost_no_object_each() -> None:
    tracemalloc.start()
    try:
        units = units_of(("a", 500_000), ("b", 500_000))
        before, _ = tracemalloc.get_traced_memory()
        queues = {name: UnitQueue(indexes) for name, indexes in unit_indexes(units).items()}
        assert [units[queues[name].take()].first for name in "ab"] == [0, 0]
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 100_000


def test_what_comes_back_is_sent_first() -> None:
    queue = UnitQueue([4, 7, 9])
    assert [len(queue), queue.peek(), queue.take(), queue.take(), len(queue)] == [3, 4, 4, 7, 1]
    for index in (7, 4):
        queue.put_back(index)
    assert [queue.peek(), len(queue)] == [4, 3]
    assert [queue.take() for _ in range(3)] == [4, 7, 9]
    assert not queue


def test_deaths_are_counted_by_unit_until_it_ends() -> None:
    queue = UnitQueue([1, 2])
    assert queue.add_death(1, "killed") == ["killed"]
    assert queue.add_death(2, "hung") == ["hung"]
    assert queue.add_death(1, "hung") == ["killed", "hung"]
    assert queue.is_suspect(1) and queue.is_suspect(2)
    queue.finish(1)
    assert not queue.is_suspect(1)
    assert queue.add_death(1, "killed") == ["killed"]
