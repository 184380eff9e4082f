"""The queue of one branch: the order of its units, and the deaths that they cause."""

import numpy as np

from pipeline.cluster.unit_queue import UnitQueue, unit_indexes
from pipeline.plan import Unit, Units
from pipeline.shards.units import UnitGroup


def test_indexes_are_those_of_each_branch_in_order() -> None:
    units = [Unit(f"{name}-{i}", "", name, i, 1) for i, name in enumerate("abba")]
    assert {name: list(found) for name, found in unit_indexes(units).items()} == {"a": [0, 3], "b": [1, 2]}


def test_units_of_a_plan_need_no_list() -> None:
    first, rows = np.arange(3), np.ones(3, np.int32)
    units = Units.of((UnitGroup(name), first, rows, bytes(96)) for name in ("a", "b"))
    assert unit_indexes(units) == {"a": range(3), "b": range(3, 6)}


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
