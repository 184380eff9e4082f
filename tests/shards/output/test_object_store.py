"""Object stores as they are: several servers, requests that fail, answers that are lost, stores that overwrite."""

import hashlib
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.cli import main
from pipeline.errors import InputError, UnitError
from pipeline.shards.columns.layout import read_layout
from pipeline.shards.cursor import CursorCache
from pipeline.shards.files.discovery import find_shards
from pipeline.shards.identity import with_column_digests
from pipeline.shards.output import object_store
from pipeline.shards.output.store import Store, open_store
from pipeline.shards.reader import read_windows
from schemas.recipe import Columns
from tests.fixtures.data_sets import contents, plan_of, rows_of, run_here, write_input, write_recipe
from tests.fixtures.disks import mounted
from tests.fixtures.faulty_proxy import FaultyProxy, proxied
from tests.fixtures.object_stores import BUCKET, KEY_ID, SECRET, fake_gcs, moto, rclone, s3_settings, seaweedfs
from tests.fixtures.shard_files import photos, write_shard

FAULTS = ("busy", "dropped", "answer lost")


@pytest.fixture(scope="module")
def proxy() -> Iterator[FaultyProxy]:
    """S3 behind a proxy that forwards everything until a test says otherwise."""
    with moto() as url, proxied(url, slow_s=0.1) as proxy, s3_settings(proxy.url):
        yield proxy


@pytest.fixture
def bucket(proxy: FaultyProxy, tmp_path: Path) -> Iterator[str]:
    """The URI of an empty folder in it."""
    yield f"s3://{BUCKET}/{tmp_path.name}"
    proxy.failing = proxy.slow = 0.0
    proxy.script.clear()
    proxy.clear()


@pytest.fixture(scope="module")
def go_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as url, s3_settings(url):
        yield


def uploaded(folder: Path, uri: str) -> None:
    """Copy a local folder into a store."""
    store = open_store(uri)
    for path in folder.rglob("*"):
        if path.is_file():
            store.write(path.relative_to(folder).as_posix(), path.read_bytes())


def fetched(uri: str) -> dict[str, bytes]:
    """Return what `contents` returns of a local data set."""
    store = open_store(uri)
    return {path: store.read(path) for folder in ("data", "rejected", "quarantine") for path in store.list(folder)}


def check_runs(uri: str, folder: Path) -> None:
    """Runs from a store to itself and to this machine make the same bytes; from this machine, the same but the URI."""
    write_input(folder / "data", rows=8)
    recipe = write_recipe(folder)
    run_here(plan_of(recipe))
    uploaded(folder / "data", f"{uri}/data")
    there, here = f"{uri}/data/*.parquet", folder / "from-there"
    assert run_here(plan_of(recipe, input__uri=there, output__uri=f"{uri}/out"))[0].complete
    assert run_here(plan_of(recipe, input__uri=there, output__uri=str(here)))[0].complete
    assert fetched(f"{uri}/out") == contents(here)
    rows, local = (pd.DataFrame(rows_of(out)).drop(columns="source_uri") for out in (here, folder / "out"))
    assert len(rows) == 32
    pd.testing.assert_frame_equal(rows, local)


@pytest.mark.slow
def test_a_run_whose_requests_fail_and_wait_makes_the_local_bytes(
    proxy: FaultyProxy, bucket: str, tmp_path: Path
) -> None:
    proxy.failing = proxy.slow = 0.05
    check_runs(bucket, tmp_path)
    assert proxy.failed.total() >= 3 and proxy.slowed


@pytest.mark.parametrize("fault", FAULTS)
def test_every_request_may_fail_once(proxy: FaultyProxy, bucket: str, fault: str) -> None:
    store = open_store(bucket)
    for act in (
        lambda: store.write("data/a", b"1"),
        lambda: store.create("once", b"mine"),
        lambda: store.read("data/a") == b"1",
        lambda: store.size("data/a") == 1,
        lambda: [*store.scan("data")] == [("data/a", 1)],
        lambda: store.remove_many(["data/a"]),
    ):
        proxy.script[:] = [fault]
        assert act() in (None, True)
        assert not proxy.script
    assert store.list("") == ["once"]


def test_a_creation_whose_answer_is_lost_was_ours(proxy: FaultyProxy, bucket: str) -> None:
    store = open_store(bucket)
    proxy.script[:] = ["answer lost"]
    assert store.create("lease", b"driver 1")
    assert not store.create("lease", b"driver 2")
    assert store.read("lease") == b"driver 1"


def test_one_request_each(proxy: FaultyProxy, bucket: str) -> None:
    store = open_store(bucket)
    store.write("a", b"1")
    for act, kind in (
        (lambda: store.write("b", b"1"), "PUT"),
        (lambda: store.create("c", b"1"), "PUT"),
        (lambda: store.read("a"), "GET"),
        (lambda: store.exists("a"), "HEAD"),
        (lambda: store.exists("d"), "HEAD"),
        (lambda: store.size("d"), "HEAD"),
        (lambda: store.list("data"), "GET list"),
        (lambda: store.remove_many(["a", "b", "c", "d"]), "POST delete"),
    ):
        proxy.clear()
        act()
        assert proxy.counts == {kind: 1}


@pytest.mark.slow
def test_a_large_file_goes_up_in_parts(proxy: FaultyProxy, bucket: str, tmp_path: Path) -> None:
    store = open_store(bucket)
    size = 101 << 20
    with store.stage() as folder:
        with (folder / "file").open("wb") as file:
            file.truncate(size)
            file.seek(60 << 20)
            file.write(b"in the second part")
        store.publish(folder / "file", "data/large")
        with (folder / "file").open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    assert proxy.counts["PUT multipart"] == 3 and not proxy.counts["PUT"]
    assert store.size("data/large") == size
    assert hashlib.sha256(store.read("data/large")).hexdigest() == digest


@pytest.mark.slow
def test_the_data_set_is_never_on_the_local_disk(proxy: FaultyProxy, bucket: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (24, 200, 300, 3), np.uint8)  # 180 KB each
    write_shard(tmp_path / "data/a.parquet", list(noise), labels=[0] * 24)
    uploaded(tmp_path / "data", f"{bucket}/data")
    shutil.rmtree(tmp_path / "data")
    recipe = write_recipe(tmp_path, [{"name": "b", "copies": 1, "operators": [{"flip": {}}]}])
    with mounted(tmp_path / "disk", "2m") as disk, pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(disk))
        plan = plan_of(recipe, input__uri=f"{bucket}/data/*.parquet", output__uri=f"{bucket}/out")
        manifest, _ = run_here(plan)
    assert manifest.complete
    assert sum(open_store(f"{bucket}/out").sizes("data").values()) > 4 << 20


@pytest.mark.slow
def test_credentials_are_in_no_line_and_no_file(
    proxy: FaultyProxy, bucket: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_input(tmp_path / "data", shards=1, rows=4)
    output = [str(write_recipe(tmp_path)), "--executor", "inline", "--output", f"{bucket}/out"]
    proxy.failing = 0.1
    assert main(["run", *output, "--log-json"]) == 0
    proxy.failing = 1.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        patch.setattr(object_store, "PAUSES_S", ())
        import s3fs

        s3fs.S3FileSystem.clear_instance_cache()
        assert main(["run", *output]) == 2
    s3fs.S3FileSystem.clear_instance_cache()
    proxy.failing = 0.0
    said = capfd.readouterr()
    store = open_store(f"{bucket}/out")
    everything = [said.out.encode(), said.err.encode(), *(store.read(path) for path in store.list(""))]
    assert len(everything) > 5
    assert not [each for each in everything if SECRET.encode() in each or KEY_ID.encode() in each]


def test_units_of_one_shard_ask_little_and_notice_a_change(proxy: FaultyProxy, bucket: str, tmp_path: Path) -> None:
    table = pa.table({"image": photos(40, 8, 8), "label": [0] * 40, "id": [str(row) for row in range(40)]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=4)
    store = open_store(f"{bucket}/data")
    store.write("a.parquet", (tmp_path / "a.parquet").read_bytes())
    shards = find_shards(f"{bucket}/data", "/")
    layout = read_layout(shards, Columns(), ())
    (shard,) = with_column_digests(shards, layout)
    cache = CursorCache()
    assert len(list(read_windows(shard, layout, 0, 4, 4, cursor_cache=cache))) == 1
    proxy.clear()
    for first in range(4, 40, 4):
        ((_, rows),) = read_windows(shard, layout, first, 4, 4, cursor_cache=cache)
        assert [row.id for row in rows] == [str(row) for row in range(first, first + 4)]
    assert proxy.counts.total() == 0  # all of the shard came with the first request
    store.write("a.parquet", (tmp_path / "a.parquet").read_bytes()[:-1] + b"0")
    with pytest.raises(UnitError):
        list(read_windows(shard, layout, 0, 4, 4))


def test_a_shard_that_changes_while_it_is_open_is_an_error(proxy: FaultyProxy, bucket: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (30, 240, 320, 3), np.uint8)
    write_shard(tmp_path / "a.parquet", list(noise), labels=[0] * 30, row_group=10)  # 7 MB
    store = open_store(f"{bucket}/data")
    store.write("a.parquet", (tmp_path / "a.parquet").read_bytes())
    shards = find_shards(f"{bucket}/data", "/")
    layout = read_layout(shards, Columns(), ())
    (shard,) = with_column_digests(shards, layout)
    cache = CursorCache()
    assert len(list(read_windows(shard, layout, 0, 10, 10, cursor_cache=cache))) == 1
    write_shard(tmp_path / "a.parquet", list(255 - noise), labels=[0] * 30, row_group=10)
    store.write("a.parquet", (tmp_path / "a.parquet").read_bytes())
    with pytest.raises(UnitError):
        list(read_windows(shard, layout, 20, 10, 10, cursor_cache=cache))


def test_many_creators_of_one_file_and_one_wins(proxy: FaultyProxy, bucket: str) -> None:
    store = open_store(bucket)
    won = contend(store)
    assert len(won) == 1
    assert store.read("once") == won[0]


def contend(store: Store) -> list[bytes]:
    """Return the bytes with which threads created one file; each has its own."""
    won, barrier = [], threading.Barrier(6)

    def create(mine: bytes) -> None:
        barrier.wait()
        if store.create("once", mine):
            won.append(mine)

    threads = [threading.Thread(target=create, args=(str(index).encode(),)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return won


def check_store(uri: str, folder: Path) -> None:
    """Check what commits need of a store, whole runs into it, and removal."""
    store = open_store(uri)
    store.probe()
    won = contend(store)
    assert [store.read("once")] == won
    check_runs(uri, folder)
    store.remove_many(store.list(""))
    assert [*store.scan("")] == []


@pytest.mark.usefixtures("go_server")
def test_seaweedfs_is_a_store(tmp_path: Path) -> None:
    check_store(f"s3://{BUCKET}/{tmp_path.name}", tmp_path)


def test_a_store_that_overwrites_in_silence_is_refused(tmp_path: Path) -> None:
    with rclone(tmp_path / "rclone") as url, s3_settings(url):
        store = open_store(f"s3://{BUCKET}/x")
        with pytest.raises(InputError, match="writes over a file that it is told to create only where there is none"):
            store.probe()
        assert store.list("") == []


def test_a_wrong_secret_is_one_line_without_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_input(tmp_path / "data", shards=1, rows=4)
    recipe = write_recipe(tmp_path)
    with rclone(tmp_path / "rclone") as url, s3_settings(url), pytest.MonkeyPatch.context() as patch:
        import s3fs

        patch.setenv("AWS_SECRET_ACCESS_KEY", f"wrong{SECRET}")
        s3fs.S3FileSystem.clear_instance_cache()
        assert main(["run", str(recipe), "--executor", "inline", "--output", f"s3://{BUCKET}/out"]) == 2
    said = capfd.readouterr()
    assert "cannot be written" in said.err and "Traceback" not in said.err
    assert SECRET not in said.out + said.err


@pytest.mark.filterwarnings("ignore:Sending a large body directly")  # of gcsfs
def test_googles_store_is_a_store(tmp_path: Path) -> None:
    with fake_gcs(tmp_path / "gcs") as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", url)
        check_store(f"gs://{BUCKET}/{tmp_path.name}", tmp_path)
