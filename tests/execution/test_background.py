"""Background threads for decoding and encoding: the order of work changes, and no byte of the result."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.execution.background import BackgroundThreads
from schemas.manifest import UnitRecord
from tests.fixtures.data_sets import contents, plan_of, run_here, write_input, write_recipe
from tests.fixtures.shard_files import photos, write_shard


def test_what_follows_an_item_happens_while_the_next_one_is_made() -> None:
    started = [threading.Event() for _ in range(3)]

    def items() -> Iterator[int]:
        for index in range(3):
            if index:
                assert started[index - 1].wait(timeout=30), "the item before is not at work yet"
            yield index

    def follow(index: int) -> int:
        started[index].set()
        return 10 * index

    with BackgroundThreads(2, "cpu") as background:
        assert list(background.map_in_background(follow, items())) == [0, 10, 20]
    with BackgroundThreads(1, "cpu") as background:  # a plain loop: each follows at once
        assert list(background.map_in_background(str, iter([3, 1, 2]))) == ["3", "1", "2"]


@pytest.mark.parametrize("cpus", [1, 2])
def test_an_error_behind_reaches_the_caller(cpus: int) -> None:
    with BackgroundThreads(cpus, "cpu") as background, pytest.raises(ZeroDivisionError):
        list(background.map_in_background(lambda value: 1 // value, iter([1, 0, 1])))


def test_cores_change_no_byte_of_a_run(tmp_path: Path) -> None:
    write_input(tmp_path / "data", shards=1, rows=150)
    write_shard(
        tmp_path / "data" / "z.parquet", [*photos(70), b"no image"], labels=[0] * 71, ids=list(map(str, range(71)))
    )
    branches = [{"name": "flipped", "copies": 2, "operators": [{"flip": {"probability": 0.5}}]}]
    found = {}
    for cpus in (1, 3):
        recipe = write_recipe(
            tmp_path, branches, output={"uri": f"out{cpus}", "rows_per_unit": 150}, resources={"flip": {"cpus": cpus}}
        )
        manifest, markers = run_here(plan_of(recipe))
        assert manifest.counts.accepted == 2 * 220 and manifest.counts.quarantined == 1
        assert all(isinstance(each, UnitRecord) for each in markers)
        found[cpus] = contents(tmp_path / f"out{cpus}")
    assert found[3] == found[1]
