"""The commit log: a unit is there when a segment names it, and every reader chooses the same of two records."""

import hashlib
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.shards.output import commit_log
from pipeline.shards.output.commit_log import COMMITS, CommitLog, append
from pipeline.shards.output.store import LocalStore
from pipeline.shards.output.unit_files import file_path
from schemas.manifest import FileRecord, UnitRecord
from schemas.segments import SEGMENT
from tests.fixtures.commit_logs import records_in
from tests.fixtures.data_sets import contents, plan_of, run_here, write_input, write_recipe


def record(unit: str, run: int = 1, sha256: str = "a" * 64, **fields: object) -> UnitRecord:
    file = FileRecord(path=file_path("data", unit, sha256), rows=3, bytes=9, sha256=sha256)
    made = UnitRecord(
        unit=unit, digest="d", branch="b", shard="s.parquet", first=0, rows=3, selected=3, copies=1, accepted=2,
        rejected=1, quarantined=0, reasons={"blank": 1}, files={"data": file}, run=run, sample_ids=bytes(range(32)),
        payloads=bytes(16),
    )  # fmt: skip
    return made.model_copy(update=fields)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


def test_a_record_comes_back_as_it_was_put_in(store: LocalStore) -> None:
    unusual = record(
        "u", label="\u00e9 class", shard=None, quarantine_reasons={"null_image": 2, "too_large": 1}, exact=False
    )
    append(store, [unusual, record("v", label=3, files={}, device="cpu (of a make)", seconds=1.5)])
    assert records_in(store.root) == {
        "u": unusual,
        "v": record("v", label=3, files={}, device="cpu (of a make)", seconds=1.5),
    }


def test_a_segment_is_named_by_its_bytes_and_equal_ones_meet(store: LocalStore) -> None:
    paths = {append(store, [record("u")]), append(store, [record("u")])}
    (path,) = paths
    assert path == f"{COMMITS}/{hashlib.sha256(store.read(path)).hexdigest()}.parquet"
    assert append(store, []) is None
    assert [segment.path for segment in CommitLog(store).segments] == [path]


def test_nothing_is_there_before_the_first_segment(store: LocalStore) -> None:
    assert CommitLog(store).segments == [] and [*CommitLog(store).records()] == []


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize(
    ("stands", "other"),
    [
        (record("u", run=2, sha256="b" * 64), record("u", run=1, sha256="a" * 64)),
        (record("u", run=1, sha256="a" * 64), record("u", run=1, sha256="b" * 64)),
        (record("u", run=1, sha256="b" * 64), record("u", run=1, sha256="a" * 64, exact=False)),
        (record("u", run=10, sha256="b" * 64, exact=False), record("u", run=9, sha256="a" * 64)),
    ],
    ids=["later run", "smaller hash", "exact", "later run though not exact"],
)
def test_of_two_records_of_a_unit_one_stands_whichever_came_first(
    store: LocalStore, stands: UnitRecord, other: UnitRecord, swapped: bool
) -> None:
    for each in (other, stands) if swapped else (stands, other):
        append(store, [each, record(f"only beside run {each.run} {each.exact} {each.files['data'].sha256[:1]}")])
    found = records_in(store.root)
    assert found["u"] == stands and len(found) == 3
    log = CommitLog(store)
    assert sorted(table.num_rows for table in log.scan(["unit"])) in ([1, 2], [3])
    merged = log.merge()
    merged.remove_merged()
    assert records_in(store.root) == found
    assert sum(segment.units for segment in CommitLog(store).described()) == 3


def test_merging_keeps_every_record_and_what_is_large_stays(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    large = append(store, [record(f"large {n}") for n in range(300)])
    monkeypatch.setattr(commit_log, "MERGED_BYTES", (store.root / str(large)).stat().st_size)
    for n in range(12):
        append(store, [record(f"small {n}")])
    before = records_in(store.root)
    merged = CommitLog(store).merge()
    assert len([*(store.root / COMMITS).iterdir()]) > 13  # until the end both are there, and nothing is doubled
    assert records_in(store.root) == before
    merged.remove_merged()
    assert records_in(store.root) == before and len(before) == 312
    assert str(large) in {segment.path for segment in CommitLog(store).segments}
    assert len(CommitLog(store).segments) < 12


def test_units_that_are_left_out_of_a_merge_are_there_no_longer(store: LocalStore) -> None:
    append(store, [record("u"), record("v")])
    CommitLog(store).merge(without=["u"]).remove_merged()
    assert {*records_in(store.root)} == {"v"}
    CommitLog(store).merge(without=["v"]).remove_merged()
    assert records_in(store.root) == {} and [*(store.root / COMMITS).iterdir()] == []


def test_row_groups_are_bounded_in_bytes(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.shards.output.segments.MAX_ROW_GROUP_BYTES", 4_000)
    append(store, [record(f"u{n}", sample_ids=bytes(1_000)) for n in range(12)])
    sizes = [table.num_rows for table in CommitLog(store).scan(SEGMENT.names)]
    assert sum(sizes) == 12 and len(sizes) >= 4


def test_a_segment_that_cannot_be_read_is_one_line_with_a_remedy(store: LocalStore) -> None:
    store.write(f"{COMMITS}/{'0' * 64}.parquet", b"junk")
    with pytest.raises(InputError, match=r"cannot be read.*remove it: a run takes its units up from their files"):
        CommitLog(store)


@pytest.mark.parametrize("path", ["data/../../x", "/dev/zero", "data/a/b.parquet", "elsewhere/x.parquet"])
def test_a_record_that_names_a_file_elsewhere_is_refused(store: LocalStore, path: str) -> None:
    file = FileRecord.model_construct(path=path, rows=3, bytes=9, sha256="a" * 64)
    append(store, [record("u", files={"data": file})])
    with pytest.raises(InputError, match=r"record of unit .u. cannot be read"):
        records_in(store.root)


@pytest.mark.parametrize("name", ["u.json", "index.jsonl"])
def test_the_layout_before_is_refused(store: LocalStore, name: str) -> None:
    store.write(f"{COMMITS}/{name}", b"{}")
    with pytest.raises(InputError, match="by an earlier Palimpsest, which kept a file for each unit; use the commit"):
        CommitLog(store)


DRIVER = """
import sys
from pathlib import Path
from tests.fixtures.data_sets import plan_of, run_here
run_here(plan_of(Path(sys.argv[1])))
"""


@pytest.mark.slow
def test_drivers_that_are_stopped_anywhere_lose_no_unit(tmp_path: Path) -> None:
    """Two drivers that know nothing of one another, one of them stopped and woken again and again."""
    write_input(tmp_path / "data", rows=60)
    recipe = write_recipe(tmp_path, output={"rows_per_unit": 2})
    run_here(plan_of(recipe, output__uri=str(tmp_path / "alone")))
    draw = random.Random(11)
    for _ in range(8):
        drivers = [subprocess.Popen([sys.executable, "-c", DRIVER, str(recipe)]) for _ in range(2)]
        while drivers[0].poll() is None:
            time.sleep(draw.uniform(0, 0.1))
            drivers[0].send_signal(signal.SIGSTOP)
            time.sleep(draw.uniform(0, 0.2) if drivers[1].poll() is None else 0)
            drivers[0].send_signal(signal.SIGCONT)
        assert [driver.wait(120) for driver in drivers] == [0, 0]
        assert contents(tmp_path / "out") == contents(tmp_path / "alone")
        assert json.loads((tmp_path / "out/manifest.json").read_text())["complete"]
        for path in [*(tmp_path / "out").rglob("*")]:
            if path.is_file():
                path.unlink()
