"""The queue of one branch: the order of its units, and the deaths that they cause."""

import os
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.cluster.unit_queue import UnitQueue, reading_places, unit_indexes
from pipeline.plan import Units
from pipeline.shards.columns.layout import read_layout
from pipeline.shards.cursor import CursorCache
from pipeline.shards.files.discovery import Shard, find_shards
from pipeline.shards.reader import read_windows
from pipeline.shards.units import UnitGroup
from schemas.recipe import Columns


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


def shard_of(path: str, *group_rows: int) -> Shard:
    return Shard(path, path, sum(group_rows), 1, "", group_rows)


def queue_of(*shards: Shard, rows: int = 10) -> UnitQueue:
    """A queue of the units of one branch, of `rows` rows each."""
    firsts = [np.arange(0, shard.rows, rows) for shard in shards]
    units = Units.of(
        (UnitGroup("a", shard), first, np.full(len(first), rows, np.int32), bytes(32 * len(first)))
        for shard, first in zip(shards, firsts, strict=True)
    )
    return UnitQueue(range(len(units)), reading_places(units, range(len(units))))


def taken(queue: UnitQueue, *workers: str) -> dict[str, list[int]]:
    """Return what workers get that take one unit each in turn."""
    found: dict[str, list[int]] = {worker: [] for worker in workers}
    while queue:
        for worker in workers:
            if queue:
                assert queue.peek(worker) == queue.peek(worker)
                found[worker].append(queue.take(worker))
    return found


def test_each_worker_goes_through_shards_of_its_own() -> None:
    queue = queue_of(shard_of("a", 30), shard_of("b", 30), shard_of("c", 20), shard_of("d", 20))
    assert taken(queue, "one", "two") == {"one": [0, 1, 2, 6, 7], "two": [3, 4, 5, 8, 9]}


def test_a_shard_is_divided_where_a_row_group_begins() -> None:
    queue = queue_of(shard_of("a", 45, 50, 25))  # units 5 and 10 are the first within the second and third
    assert taken(queue, "one", "two") == {"one": [0, 1, 2, 3, 4, 10], "two": [5, 6, 7, 8, 9, 11]}


def test_workers_share_a_row_group_where_there_is_no_other() -> None:
    queue = queue_of(shard_of("a", 80, 10))
    assert taken(queue, "one", "two", "three") == {"one": [0, 2, 5], "two": [8, 3, 6], "three": [1, 4, 7]}


def test_rows_groups_of_one_row_or_larger_than_a_unit() -> None:
    for shard in (shard_of("a", *[1] * 40), shard_of("a", 40), shard_of("a", 3, 37), shard_of("a", 40, *[0] * 3)):
        found = taken(queue_of(shard), "one", "two", "three")
        assert sorted(found["one"] + found["two"] + found["three"]) == [0, 1, 2, 3]


def test_what_a_worker_leaves_behind_is_taken_by_another() -> None:
    queue = queue_of(shard_of("a", 40), shard_of("b", 20))
    assert [queue.take("one"), queue.take("two")] == [0, 4]
    queue.release("one")
    queue.release("never there")
    assert [queue.take("two"), len(queue)] == [5, 3]
    assert [queue.take("two") for _ in range(3)] == [1, 2, 3]
    assert not queue


def test_every_unit_is_taken_once_whatever_the_order() -> None:
    random = np.random.default_rng(0)
    for _ in range(200):
        shards = [shard_of(str(at), *random.integers(1, 90, random.integers(1, 5)).tolist()) for at in range(4)]
        queue, found, back = queue_of(*shards), [], 0
        total = len(queue)
        while queue:
            worker = int(random.integers(5))
            index = queue.take(worker)
            if random.random() < 0.1:
                queue.release(worker)
                queue.put_back(index)
                back += 1
            else:
                found.append(index)
            assert len(queue) == total - len(found)
        assert sorted(found) == list(range(total))
        assert back < 2 * total


def bytes_read() -> int:
    return int(dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())["rchar"])


def test_two_workers_read_shards_once_but_for_the_last_row_groups(tmp_path: Path) -> None:
    images = [os.urandom(4_000) for _ in range(800)]
    for name in "abcdef":
        pq.write_table(
            pa.table({"image": images, "label": [0] * 800}), tmp_path / f"{name}.parquet", row_group_size=200
        )
    shards = find_shards("*.parquet", str(tmp_path))
    layout, queue = read_layout(shards, Columns(), ()), queue_of(*shards)
    workers, random, before, rows = [CursorCache(), CursorCache()], np.random.default_rng(2), bytes_read(), 0
    while queue:
        worker = int(random.integers(2))
        index = queue.take(worker)
        found = read_windows(shards[index // 80], layout, index % 80 * 10, 10, 64, cursor_cache=workers[worker])
        rows += sum(len(some) for _, some in found)
    assert rows == 6 * 800
    assert bytes_read() - before < 1.1 * sum(shard.bytes for shard in shards) + 8 * 140_000
