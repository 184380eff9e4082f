"""One seam for a folder and a bucket: whole or absent, and `create` only once."""

import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError, UnitError
from pipeline.shards.columns.layout import read_layout
from pipeline.shards.files.discovery import Shard, find_shards
from pipeline.shards.identity import changed_columns, with_column_digests
from pipeline.shards.output import s3_requests
from pipeline.shards.output.store import Store, open_store
from pipeline.shards.output.unit_files import unit_of
from pipeline.shards.reader import read_windows
from schemas.recipe import Columns
from tests.fixtures.data_sets import contents, plan_of, run_here, write_input, write_recipe
from tests.fixtures.object_stores import moto, s3_settings
from tests.fixtures.shard_files import photos


@pytest.fixture(scope="module")
def s3() -> Iterator[None]:
    """A real S3 API on the loopback, behind the settings that s3fs reads."""
    with moto() as url, s3_settings(url):
        yield


@pytest.fixture(params=["local", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        return open_store(str(tmp_path / "store"))
    if request.param == "memory":
        return open_store(f"memory://{tmp_path.name}")
    request.getfixturevalue("s3")
    return open_store(f"s3://bucket/{tmp_path.name}")


def test_write_read_list_remove(store: Store) -> None:
    assert store.list("data") == []
    store.write("data/b", b"2")
    store.write("data/deep/a", b"1")
    store.write("data/b", b"22")
    assert store.read("data/b") == b"22"
    assert store.list("data") == ["data/b", "data/deep/a"]
    assert store.exists("data/b")
    store.remove("data/b")
    store.remove("data/b")
    assert not store.exists("data/b")
    with pytest.raises(FileNotFoundError):
        store.read("data/b")


def test_scan_yields_every_file_below_a_folder_with_its_size(store: Store) -> None:
    assert list(store.scan("")) == list(store.scan("data")) == []
    for path in ("data/b", "data/deep/er/a", "database", "data.txt"):
        store.write(path, b"x" * len(path))
    assert sorted(store.scan("data")) == [("data/b", 6), ("data/deep/er/a", 14)]
    assert sorted(store.scan("")) == [("data.txt", 8), ("data/b", 6), ("data/deep/er/a", 14), ("database", 8)]
    assert list(store.scan("data/b")) == []


def test_remove_many_removes_what_is_there(store: Store) -> None:
    for name in "abcd":
        store.write(f"data/{name}", b"x")
    store.remove_many(f"data/{name}" for name in "abx")
    assert store.list("") == ["data/c", "data/d"]
    store.remove_many([])


@pytest.mark.usefixtures("s3")
def test_pages_and_bulk_removals_follow_one_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_requests, "MAX_KEYS", 3)
    store = open_store(f"s3://bucket/{tmp_path.name}")
    paths = [f"data/{number}" for number in range(8)]
    for path in paths:
        store.write(path, b"x")
    assert store.list("data") == paths
    store.remove_many(paths[:7])
    assert store.list("data") == paths[7:]


def test_a_file_that_a_bulk_removal_leaves_is_an_error() -> None:
    class Refusing:
        """A file system of which one object is locked."""

        def split_path(self, path: str) -> tuple[str, str, None]:
            bucket, _, key = path.partition("/")
            return bucket, key, None

        def call_s3(self, method: str, **asked: object) -> dict[str, object]:
            assert method == "delete_objects"
            return {"Errors": [{"Key": "b", "Code": "AccessDenied", "Message": "locked"}]}

    with pytest.raises(PermissionError, match="1 of 2 files cannot be removed: b: AccessDenied: locked"):
        s3_requests.delete(Refusing(), ["bucket/a", "bucket/b"])


def test_scan_holds_no_list_of_what_it_finds(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for number in range(1500):
        (tmp_path / f"data/{number:060d}").touch()
    store = open_store(str(tmp_path))
    tracemalloc.start()
    try:
        assert sum(1 for _ in store.scan("data")) == 1500
        assert tracemalloc.get_traced_memory()[1] < 100_000  # names alone are 160 KB
    finally:
        tracemalloc.stop()


def test_create_writes_only_once(store: Store) -> None:
    assert store.create("marker", b"first")
    assert not store.create("marker", b"second")
    assert store.read("marker") == b"first"


def test_a_label_changed_in_a_bucket_is_noticed_by_its_tag(s3: None, tmp_path: Path) -> None:
    def write(label: int) -> bytes:
        sink = pa.BufferOutputStream()
        rows = {"image": photos(2), "label": pa.array([5, label])}
        pq.write_table(pa.table(rows), sink, compression="none", use_dictionary=False, write_statistics=False)
        data: bytes = sink.getvalue().to_pybytes()
        place.write("data/a.parquet", data)
        return data

    def look() -> Shard:
        shards = find_shards(f"{place.uri}/data", "/")
        return with_column_digests(shards, read_layout(shards, Columns(), ()))[0]

    place = open_store(f"s3://bucket/{tmp_path.name}")
    size, before = len(write(5)), look()
    assert look() == before and before.file_version.startswith(f"{size}-")
    assert len(write(7)) == size
    after = look()
    assert (after.digest, changed_columns(before.columns, after.columns)) == (before.digest, ["label"])
    layout = read_layout((before,), Columns(), ())
    with pytest.raises(UnitError, match="column label has changed"):
        list(read_windows(before, layout, 0, 2, 2))


def test_one_of_many_creators_wins(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    won: list[int] = []
    barrier = threading.Barrier(8)

    def contend(index: int) -> None:
        barrier.wait()
        if store.create("marker", str(index).encode()):
            won.append(index)

    threads = [threading.Thread(target=contend, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert store.read("marker") == str(won[0]).encode()


def test_a_stage_leaves_nothing(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    with pytest.raises(RuntimeError), store.stage() as folder:
        (folder / "half").write_bytes(b"x")
        raise RuntimeError
    assert store.list("_tmp") == []


def test_an_unknown_protocol_is_said() -> None:
    with pytest.raises(InputError, match="nosuch"):
        open_store("nosuch://bucket/x")


@pytest.mark.usefixtures("s3")
def test_a_whole_run_from_bucket_to_bucket_is_the_local_one(tmp_path: Path) -> None:
    import s3fs

    write_input(tmp_path / "data", rows=8)
    run_here(plan_of(write_recipe(tmp_path)))
    local = contents(tmp_path / "out")
    s3fs.S3FileSystem().put(str(tmp_path / "data"), f"bucket/{tmp_path.name}/", recursive=True)
    there = f"s3://bucket/{tmp_path.name}"
    plan = plan_of(write_recipe(tmp_path), input__uri=f"{there}/data/*.parquet", output__uri=f"{there}/out")
    manifest, _ = run_here(plan)
    assert manifest.complete
    store = open_store(f"{there}/out")
    assert [unit_of(path) for path in store.list("data")] == sorted(map(unit_of, local))
    from pipeline.audit.verify import verify_dataset

    found = verify_dataset(store)
    assert found.ok, found.findings
    assert found.source_links == 16
    _, again = run_here(plan)
    assert again == []
