"""Cursor: one row group is decoded once, whatever units it is cut into, and every row is what a fresh read gives."""

import os
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import UnitError
from pipeline.shards.columns.layout import read_layout
from pipeline.shards.cursor import CursorCache
from pipeline.shards.files.discovery import find_shards
from pipeline.shards.reader import read_windows
from schemas.recipe import Columns

ROWS = 700


@pytest.fixture(params=[ROWS, 96], ids=["one row group", "groups of 96"])
def shard(request, tmp_path):
    noise = [row.to_bytes(4, "big") + os.urandom(4_000) for row in range(ROWS)]
    labels = pa.array([f"class {row % 5}" for row in range(ROWS)]).dictionary_encode()
    table = pa.table({"image": noise, "label": labels, "id": range(ROWS)})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=request.param, use_dictionary=["label"])
    return find_shards("a.parquet", str(tmp_path))[0]


def read(shard, layout, first, rows, cursor_cache=None):
    found = list(read_windows(shard, layout, first, rows, 48, cursor_cache=cursor_cache))
    return [table for table, _ in found], [row for _, rows in found for row in rows]


def bytes_read() -> int:
    return int(dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())["rchar"])


@pytest.mark.parametrize("size", [256, 100, 64, 7])
def test_units_in_order_read_the_shard_once(shard, size):
    layout, cursor_cache = read_layout((shard,), Columns(), ()), CursorCache()
    before = bytes_read()
    found = [read(shard, layout, first, min(size, ROWS - first), cursor_cache) for first in range(0, ROWS, size)]
    after = bytes_read() - before
    assert after < 1.05 * shard.bytes + 200_000  # and the end of the file twice, to see that it is still the same
    for first, (tables, rows) in zip(range(0, ROWS, size), found, strict=True):
        fresh_tables, fresh_rows = read(shard, layout, first, min(size, ROWS - first))
        assert rows == fresh_rows
        for table, fresh in zip(tables, fresh_tables, strict=True):
            assert table.equals(fresh)
            assert [len(chunk) for chunk in table.column("image").chunks] == [
                len(chunk) for chunk in fresh.column("image").chunks
            ]  # what is written may follow the pieces


def test_units_in_any_order_are_the_same_rows(shard):
    layout, cursor_cache = read_layout((shard,), Columns(), ()), CursorCache()
    draw = random.Random(0)
    for _ in range(40):
        first = draw.randrange(ROWS)
        rows = draw.randint(0, ROWS - first)
        _, found = read(shard, layout, first, rows, cursor_cache)
        assert [int.from_bytes(row.data[:4], "big") for row in found] == list(range(first, first + rows))


def test_two_workers_that_share_a_row_group_read_it_once_each(shard):
    layout = read_layout((shard,), Columns(), ())
    workers = [CursorCache(), CursorCache()]
    draw, before = random.Random(1), bytes_read()
    for first in range(0, ROWS, 50):
        read(shard, layout, first, min(50, ROWS - first), draw.choice(workers))
    assert bytes_read() - before < 2.05 * shard.bytes + 400_000


def test_a_read_that_was_broken_off_leaves_no_place(shard):
    layout, cursor_cache = read_layout((shard,), Columns(), ()), CursorCache()
    windows = read_windows(shard, layout, 0, 200, 48, cursor_cache=cursor_cache)
    next(windows)
    windows.close()
    assert [row.row for row in read(shard, layout, 10, 5, cursor_cache)[1]] == [10, 11, 12, 13, 14]


def test_a_shard_that_changes_between_units_is_noticed(shard, tmp_path):
    layout, cursor_cache = read_layout((shard,), Columns(), ()), CursorCache()
    read(shard, layout, 0, 50, cursor_cache)
    pq.write_table(pa.table({"image": [b"x"] * ROWS, "label": ["a"] * ROWS, "id": range(ROWS)}), tmp_path / "a.parquet")
    with pytest.raises(UnitError, match="changed since the plan"):
        read(shard, layout, 50, 50, cursor_cache)
