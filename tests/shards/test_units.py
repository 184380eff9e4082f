"""Units in columns: a sequence of `Unit` objects, parts of it, and look-ups of many at a time."""

import hashlib
import pickle

import numpy as np
import pytest

from pipeline.seeding import digest, digest_of_list, digests_of_lists
from pipeline.shards.files.discovery import Shard
from pipeline.shards.units import Unit, UnitGroup, Units

SHARDS = [Shard(f"/in/{name}", name, 40, 1, "0" * 64, (40,)) for name in ("a.parquet", "b.parquet")]


@pytest.fixture
def units() -> Units:
    """Branch `x` over two shards, branch `y` over the first; four units of 10 rows each."""
    groups = [UnitGroup("x", SHARDS[0]), UnitGroup("x", SHARDS[1]), UnitGroup("y", SHARDS[0])]
    first, rows = np.arange(0, 40, 10), np.full(4, 10, np.int32)
    return Units.of(
        (group, first, rows, b"".join(hashlib.sha256(bytes([number, row])).digest() for row in range(4)))
        for number, group in enumerate(groups)
    )


def test_a_unit_is_made_of_its_columns(units: Units) -> None:
    made = hashlib.sha256(bytes([1, 2])).hexdigest()
    assert units[6] == Unit(f"x-b-{digest('b.parquet')[:6]}-000000020", made, "x", 20, 10, SHARDS[1], None)
    assert units[-1] == list(units)[-1] and units[-1].branch == "y"
    assert list(units.names()) == [unit.name for unit in units]
    assert list(reversed(units)) == list(units)[::-1]
    with pytest.raises(IndexError):
        units[12]


def test_a_part_of_the_units_is_units(units: Units) -> None:
    assert isinstance(units[2:9:3], Units)
    assert list(units[2:9:3]) == list(units)[2:9:3]
    mask = units.first >= 20
    assert [unit.first for unit in units.select(mask)] == [20, 30] * 3
    assert list(units.select(np.array([1, 11]))) == [units[1], units[11]]
    assert list(units.of_branch("y")) == list(units)[8:]
    assert list(units.select(mask).of_branch("x")) == [units[index] for index in (2, 3, 6, 7)]
    assert len(units.of_branch("z")) == 0
    assert units.ranges == {"x": range(8), "y": range(8, 12)}
    assert units.select(mask)[:4].ranges == {"x": range(4)}


def test_units_stay_in_plan_order(units: Units) -> None:
    with pytest.raises(ValueError, match="the indexes must rise"):
        units.select(np.array([3, 2]))
    with pytest.raises(ValueError, match="reversed"):
        units[::-1]


def test_columns_cannot_be_changed(units: Units) -> None:
    for column in (units.group, units.first, units.rows, units.digests):
        with pytest.raises(ValueError, match="read-only"):
            column[0] = 1


def test_units_come_back_from_a_pickle_and_a_part_brings_only_its_own_groups(units: Units) -> None:
    again = pickle.loads(pickle.dumps(units))
    assert again == units and again.plan_digest() == units.plan_digest()
    part = units.select(np.array([5, 7]))
    again = pickle.loads(pickle.dumps(part))
    assert list(again) == list(part) and len(again.groups) == 1
    assert again.index_of("x", "b.parquet", None, 30) == 1 and again.index_of("x", "a.parquet", None, 0) is None


def test_many_units_are_found_at_once(units: Units) -> None:
    groups, first = np.array([2, 0, 1, -1, 1, 0]), np.array([30, 0, 20, 20, 5, 1 << 41])
    assert units.indexes_of(groups, first).tolist() == [11, 0, 6, -1, -1, -1]
    part = units.select(np.array([0, 6, 11]))
    assert part.indexes_of(units.group, units.first).tolist() == [0] + [-1] * 5 + [1] + [-1] * 4 + [2]
    assert part.indexes_of(np.array([], np.int64), np.array([], np.int64)).tolist() == []
    assert units[:0].indexes_of(groups, first).tolist() == [-1] * 6
    assert units.group_index("y", "a.parquet", None) == 2 and units.group_index("y", "b.parquet", None) is None


@pytest.mark.parametrize("count", [0, 1, 999, 1000, 2001])
def test_a_list_is_digested_without_being_held(count: int) -> None:
    values = [[f"é{number}", number] for number in range(count)]
    assert digest_of_list(iter(values)) == digest(values)


def test_lists_that_begin_alike_are_digested_from_there() -> None:
    before, after = ["unit/2", {"b": None, "a": "é"}, [["label", "0f"]]], [{"label": "cat é"}, 1.5]
    for end in ([], after):
        made = digests_of_lists(before, [(0, 10), (10, 3)], end)
        assert made.hex() == digest([*before, 0, 10, *end]) + digest([*before, 10, 3, *end])
