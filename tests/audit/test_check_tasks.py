"""Units are checked in parts of bounded size, in which the source rows of a range are read once for all branches."""

import tracemalloc
from pathlib import Path

import pytest

from pipeline.audit.check_tasks import check_tasks
from pipeline.audit.log_checks import Drawing, PlanOrder, read_log
from pipeline.audit.verification import Verification
from pipeline.audit.verify import verify_dataset
from pipeline.publishing.manifest import read_manifest
from pipeline.shards.output.commit_log import CommitLog
from pipeline.shards.output.data_files import DataFiles
from pipeline.shards.output.store import open_store
from tests.audit.test_row_search import others
from tests.fixtures.commit_logs import put, records_in
from tests.fixtures.data_sets import FLIP, plan_of, run_here, write_input, write_recipe

BRIGHT = {"name": "bright", "copies": 1, "operators": [{"classical": {}}]}
EVERYTHING = Drawing(1.0, 0)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    write_input(folder / "data", shards=3, rows=24)
    run_here(plan_of(write_recipe(folder, [FLIP, BRIGHT], output={"keep_originals": True, "rows_per_unit": 6})))
    return folder / "out"


@pytest.mark.parametrize(("range_rows", "images"), [(6, 1), (6, 60), (12, 1), (2_048, 4_096)])
def test_every_unit_is_in_one_task_beside_those_of_the_same_rows(
    out: Path, monkeypatch: pytest.MonkeyPatch, range_rows: int, images: int
) -> None:
    monkeypatch.setattr("pipeline.audit.check_tasks.RANGE_ROWS", range_rows)
    monkeypatch.setattr("pipeline.audit.check_tasks.TASK_IMAGES", images)
    store = open_store(str(out))
    manifest, log = read_manifest(store), CommitLog(store)
    units = read_log(manifest, log, DataFiles(store), EVERYTHING, Verification())
    tasks = [*check_tasks(manifest, log, units)]
    parts = [part for task in tasks for part in task]
    seen = [record for part in parts for record in part.records]
    assert {record.unit: record for record in seen} == records_in(out) and len(seen) == 36
    places = [{(record.shard, record.first // range_rows) for record in part.records} for part in parts]
    assert all(len(place) == 1 for place in places)
    assert [next(iter(place)) for place in places] == sorted(next(iter(place)) for place in places)
    assert [part.opens for part in parts] == [next(iter(place))[1] == 0 for place in places]
    assert all({record.branch for record in part.records} == {"original", "flipped", "bright"} for part in parts)
    made = [sum(record.rows * record.copies for part in task for record in part.records) for task in tasks]
    assert all(count >= min(images, 288) for count in made[:-1])
    found = verify_dataset(store)
    assert (found.findings, found.images, found.source_links) == ([], 288, 72)


def test_the_order_of_the_plan_is_that_of_the_manifest(out: Path) -> None:
    store = open_store(str(out))
    manifest = read_manifest(store)
    units = read_log(manifest, CommitLog(store), DataFiles(store), EVERYTHING, Verification())
    plan = plan_of(out.parent / "recipe.yaml")
    order = PlanOrder(manifest, units)
    assert [*order.names_and_digests()] == [(unit.name, unit.digest) for unit in plan.units]
    assert order.commits_sha256 == manifest.commits.sha256
    first, end = order.ranges("bright", "train-00001.parquet")
    assert (first.tolist(), end.tolist()) == ([0, 6, 12, 18], [6, 12, 18, 24])
    assert [*order.overlaps()] == []


def test_a_pass_over_the_log_holds_a_few_hundred_bytes_a_unit(tmp_path: Path) -> None:
    write_input(tmp_path / "data", shards=1, rows=3)
    run_here(plan_of(write_recipe(tmp_path)))
    out = tmp_path / "out"
    put(out, others(units=1_500, rows=1))
    store = open_store(str(out))
    manifest, log, files = read_manifest(store), CommitLog(store), DataFiles(store)
    tracemalloc.start()
    units = read_log(manifest, log, files, EVERYTHING, Verification())
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(units) == 1_501
    assert held / len(units) < 300
