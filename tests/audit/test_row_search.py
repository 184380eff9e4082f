"""A row is found by one column of the commit log and one row group, however many rows there are."""

import io
import resource
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.cli import main
from pipeline.audit.replay import replay_sample
from pipeline.audit.row_search import RowSearch
from pipeline.audit.trace import trace_image
from pipeline.errors import InputError
from pipeline.shards.images.codecs import decode
from pipeline.shards.output.segments import PAYLOAD_BYTES, SAMPLE_ID_BYTES
from pipeline.shards.output.store import LocalStore, open_store
from schemas.manifest import FileRecord, UnitRecord
from tests.audit.test_trace import KEY, MARKED, run_marked
from tests.fixtures.commit_logs import change_rows, put, records_in, update
from tests.fixtures.data_sets import FLIP, rows_of, write_recipe
from tests.fixtures.shard_files import photos, write_shard

MB = 1_000_000


class CountingStore(LocalStore):
    """A folder that counts the bytes and requests it is read with."""

    bytes_read = 0
    requests = 0

    def read(self, path: str) -> bytes:
        data = super().read(path)
        self.bytes_read, self.requests = self.bytes_read + len(data), self.requests + 1
        return data

    def open(self, path: str) -> BinaryIO:
        return io.BufferedReader(_CountingFile(self, self.root / path), 1)


class _CountingFile(io.FileIO):
    def __init__(self, store: CountingStore, path: Path) -> None:
        super().__init__(path)
        self._store = store

    def readinto(self, buffer: Any) -> int:
        count = super().readinto(buffer)
        self._store.bytes_read, self._store.requests = self._store.bytes_read + count, self._store.requests + 1
        return count


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("searched")
    write_shard(folder / "data/a.parquet", photos(40, 64, 64) * 4, labels=[0] * 160)
    recipe = write_recipe(folder, [FLIP], **MARKED, output={"keep_originals": True, "rows_per_unit": 160})
    return run_marked(recipe)


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "out"))


def others(units: int, rows: int) -> Iterator[UnitRecord]:
    """Records of many other units, as far as a search reads them."""
    drawn = np.random.default_rng(7)
    for unit in range(units):
        file = FileRecord(path=f"data/other-{unit:09d}-{unit:016x}.parquet", rows=rows, bytes=1, sha256=f"{unit:064x}")
        yield UnitRecord(
            unit=f"other-b-{unit:09d}", digest="0" * 64, branch="other", shard="b.parquet", first=0, rows=rows,
            selected=rows, copies=1, accepted=rows, rejected=0, quarantined=0, files={"data": file}, run=1,
            sample_ids=drawn.bytes(SAMPLE_ID_BYTES * rows), payloads=drawn.bytes(PAYLOAD_BYTES * rows),
        )  # fmt: skip


def test_every_row_is_found_by_its_sample_id_and_by_its_payload(made: Path) -> None:
    search, rows = RowSearch(open_store(str(made))), rows_of(made)
    assert len(rows) == 480
    for row in rows[::37]:
        (found,) = search.by_sample(row["sample_id"])
        assert found.row == row and found.record.branch == row["branch"]
    marked = [row for row in rows if row["watermarks"]]
    for row in marked[::37]:
        assert [found.row for found in search.by_payload([row["watermarks"][0]["payload"]])] == [row]
    ids = [each.tobytes().hex() for part in search.sample_ids(without="original") for each in part]
    assert sorted(ids) == sorted(row["sample_id"] for row in marked)
    assert search.rows(without="original") == len(marked) == 320
    for unknown in ("0" * 32, "x", "", f"{rows[0]['sample_id']}00", rows[0]["sample_id"].upper() + " "):
        assert [*search.by_sample(unknown)] == []


def test_a_million_rows_cost_less_than_three_seconds_and_twenty_megabytes(out: Path) -> None:
    put(out, others(units=500, rows=2_000))
    row = next(row for row in rows_of(out) if row["branch"] == "flipped")
    image = decode(row["image"]["bytes"], 10**8)
    store = CountingStore(out)
    begin = time.monotonic()
    traced = trace_image(image, store, KEY)
    assert traced.rows == (row,)
    assert store.bytes_read < 20 * MB and time.monotonic() - begin < 3
    store, begin = CountingStore(out), time.monotonic()
    assert replay_sample(store, row["sample_id"], KEY).equal
    assert store.bytes_read < 20 * MB and time.monotonic() - begin < 3


@pytest.mark.slow
def test_an_image_without_a_mark_is_compared_with_a_million_rows_in_bounded_memory(out: Path) -> None:
    put(out, others(units=500, rows=2_000))
    image = decode(photos(1, 64, 64, seed=99)[0], 10**8)
    trace_image(image, open_store(str(out)), b"of another key, to load what is needed")
    before, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    store = CountingStore(out)
    assert trace_image(image, store, KEY).row is None
    seconds = time.process_time() - begin
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    print(f"{seconds:.1f} s of processor time, {grown} MiB more")
    assert seconds < 10 and grown < 250 and store.bytes_read < 40 * MB


def test_of_a_data_file_its_footer_and_one_row_group_are_read(out: Path) -> None:
    row = [row for row in rows_of(out) if row["branch"] == "flipped"][50]
    store = CountingStore(out)
    search = RowSearch(store)
    before = store.bytes_read
    (found,) = search.by_sample(row["sample_id"])
    (path,) = (out / "data").glob(f"{found.record.unit}-*.parquet")
    metadata = pq.read_metadata(path)
    assert found.row == row and metadata.num_row_groups > 3
    largest = max(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
    log = sum(path.stat().st_size for path in (out / "_commits").iterdir())
    assert store.bytes_read - before < 2 * largest + log + 64 * 1024 < path.stat().st_size


def test_all_rows_of_one_name_are_told(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row for row in rows_of(out) if row["branch"] == "flipped"]
    row = rows[3]
    unit = next(name for name in records_in(out) if name.startswith("flipped"))

    def shared(table: Any) -> Any:
        place = table.schema.get_field_index("watermarks")
        column = table.column(place).to_pylist()
        column[7] = row["watermarks"]
        return table.set_column(place, table.schema.field(place), pa.array(column, table.schema.field(place).type))

    change_rows(out, unit, "data", shared)
    traced = trace_image(decode(row["image"]["bytes"], 10**8), open_store(str(out)), KEY)
    table = rows_of(out)
    same = [each for each in table if each["watermarks"] == row["watermarks"]]
    assert len(same) == 2 and traced.rows == tuple(same) and traced.row == same[0]
    (out.parent / "found.png").write_bytes(row["image"]["bytes"])
    (out.parent / "key").write_bytes(KEY)
    assert main(["trace", str(out.parent / "found.png"), "--dataset", str(out), "--key-file", f"{out.parent}/key"]) == 0
    told = capsys.readouterr().out
    assert "2 rows share this mark's name" in told
    assert all(f"sample  {each['sample_id']}" in told for each in same)


def test_an_index_that_lies_leads_to_no_row(out: Path) -> None:
    rows = [row for row in rows_of(out) if row["branch"] == "flipped"]
    record = next(record for name, record in records_in(out).items() if name.startswith("flipped"))
    first, second = record.sample_ids[:SAMPLE_ID_BYTES], record.sample_ids[SAMPLE_ID_BYTES : 2 * SAMPLE_ID_BYTES]
    update(out, record.unit, sample_ids=second + first + record.sample_ids[2 * SAMPLE_ID_BYTES :])
    search = RowSearch(open_store(str(out)))
    assert [*search.by_sample(first.hex())] == [] and [*search.by_sample(rows[9]["sample_id"])] != []
    update(out, record.unit, sample_ids=record.sample_ids + bytes(SAMPLE_ID_BYTES))
    with pytest.raises(InputError, match="its record lists rows that its files do not hold"):
        [*RowSearch(open_store(str(out))).by_sample("0" * 32)]
    update(out, record.unit, sample_ids=record.sample_ids[1:])
    with pytest.raises(InputError, match="its index of rows is none that a run writes"):
        [*RowSearch(open_store(str(out))).by_sample("0" * 32)]


@pytest.mark.parametrize(("data", "said"), [(None, "the file is missing"), (b"junk", "cannot be read")])
def test_a_file_that_is_gone_or_broken_is_one_line(
    out: Path, data: bytes | None, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    row = rows_of(out)[-1]
    for path in (out / "data").iterdir():
        path.unlink() if data is None else path.write_bytes(data)
    assert main(["replay", str(out), "--sample-id", row["sample_id"]]) == 2
    assert said in capsys.readouterr().err
