"""A place that fails is charged to the place: told before the first unit, or once in the middle; no unit pays."""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from jobs.cli import main
from pipeline.errors import InputError, StorageError
from pipeline.shards.output import object_store as stores
from pipeline.shards.output.storage_errors import raising_storage_errors
from pipeline.shards.output.store import LocalStore, open_store
from tests.fixtures.commit_logs import records_in
from tests.fixtures.data_sets import contents, plan_of, run_here, write_input, write_recipe
from tests.fixtures.disks import busy_store, mounted, remount
from tests.fixtures.shard_files import write_shard


def run(recipe: Path, output: Path | str, *more: str) -> int:
    return main(["run", str(recipe), "--executor", "inline", "--output", str(output), *more])


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    errors = capsys.readouterr().err
    assert "Traceback" not in errors
    return errors.strip().splitlines()[-1]


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A recipe that makes 6 MiB in 6 units."""
    noise = np.random.default_rng(0).integers(0, 256, (96, 120, 180, 3), np.uint8)
    write_shard(tmp_path / "data/a.parquet", list(noise), labels=[0] * 96)
    return write_recipe(
        tmp_path, [{"name": "b", "copies": 1, "operators": [{"flip": {}}]}], output={"rows_per_unit": 16}
    )


def test_a_disk_that_is_full_in_the_middle_stops_the_run_and_no_unit_pays(
    large: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with mounted(tmp_path / "disk", "4m") as disk:
        assert run(large, disk / "out") == 1
        line = last_line(capsys)
        assert line.startswith("palimpsest: ") and "No space left on device; free some space there" in line
        assert line.endswith("the same command then goes on where this run ended")
        made = len(records_in(disk / "out"))
        assert 1 <= made < 6
        assert not list((disk / "out").glob("_failed/*"))
        remount(disk, "size=64m")
        assert run(large, disk / "out") == 0
        assert f"{made} of 6 units are done already" in capsys.readouterr().err
        plan = plan_of(large)
        run_here(plan)
        assert contents(disk / "out") == contents(Path(plan.output))


def test_a_bound_on_files_is_the_places_fault_too(large: Path, tmp_path: Path) -> None:
    def bounded() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 21, 1 << 21))

    command = [sys.executable, "-m", "jobs", "run", str(large), "--executor", "inline", "--set"]
    whole = [*command, "output.rows_per_unit=96"]
    done = subprocess.run(whole, preexec_fn=bounded, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("palimpsest: ")]
    assert "File too large" in line and "ulimit" in line
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "out").glob("_failed/*"))


@pytest.mark.parametrize(
    ("size", "options", "said"),
    [
        ("400k", None, "No space left on device; free some space"),
        ("4m", "ro", "mounted read-only; mount it for writing"),
    ],
)
def test_a_full_or_read_only_disk_is_told_before_anything_is_made(
    tmp_path: Path, size: str, options: str | None, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_input(tmp_path / "data", shards=1, rows=4)
    with mounted(tmp_path / "disk", size) as disk:
        if options:
            remount(disk, options)
        assert run(write_recipe(tmp_path), disk / "out") == 2
        line = last_line(capsys)
        assert "cannot be written" in line and said in line and "choose another" in line
        assert not [path for path in disk.rglob("*") if path.is_file()]


def refuse(number: int) -> Any:
    def link(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return link


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_mount_without_hard_links_is_served_by_a_rename_that_never_replaces(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", refuse(number))  # what exFAT, SMB and many bucket mounts say
    store = open_store(str(tmp_path))
    store.probe()
    assert store.create("a/marker", b"first")
    assert not store.create("a/marker", b"second")
    assert store.read("a/marker") == b"first"
    assert list(tmp_path.rglob("*")) == [tmp_path / "a", tmp_path / "a/marker", tmp_path / "_tmp"] or not list(
        (tmp_path / "_tmp").rglob("*")
    )


def test_a_mount_with_neither_is_refused_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", refuse(errno.EPERM))
    monkeypatch.setattr("ctypes.CDLL", refuse(errno.ENOENT))  # a system library without the call
    with pytest.raises(
        InputError, match=r"neither hard links nor a rename .*choose a folder on another disk, or s3:// or gs://"
    ):
        open_store(str(tmp_path)).probe()
    assert not list(tmp_path.iterdir())


class Careless(MemoryFileSystem):
    """A store that does not know conditional writes, as many S3 look-alikes do not."""

    protocol = "careless"

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        super().pipe_file(path, value)


def test_a_store_without_conditional_writes_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fsspec.register_implementation("careless", Careless, clobber=True)
    write_input(tmp_path / "data", shards=1, rows=4)
    assert run(write_recipe(tmp_path), "careless://bucket/out") == 2
    line = last_line(capsys)
    assert "careless://bucket/out: cannot be written safely" in line and "conditional writes" in line
    assert open_store("careless://bucket/out").list("") == []


@pytest.mark.parametrize("uri", ["zip:///nowhere/x.zip", "ftp://127.0.0.1:9/x", "reference://x", "nosuch://x"])
def test_a_protocol_that_cannot_be_opened_is_one_line(
    tmp_path: Path, uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_input(tmp_path / "data", shards=1, rows=4)
    recipe = write_recipe(tmp_path)
    assert run(recipe, uri) == 2
    assert last_line(capsys).startswith(f"palimpsest: {uri}")
    assert main(["plan", str(recipe), "--input", uri]) == 2
    assert uri in last_line(capsys)


def test_a_probe_leaves_nothing(tmp_path: Path) -> None:
    open_store(str(tmp_path / "new")).probe()
    assert not [path for path in tmp_path.rglob("*") if path.is_file() or path.name == "_tmp"]


def test_a_store_that_answers_503_only_is_one_line_and_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"ACCESS_KEY_ID": "t", "SECRET_ACCESS_KEY": "t", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(stores, "PAUSES_S", (0.01,))
    write_input(tmp_path / "data", shards=1, rows=4)
    with busy_store() as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        assert run(write_recipe(tmp_path), "s3://busy/out") == 2
        assert "s3://busy/out: cannot be written: OSError: too busy" in last_line(capsys)
        with pytest.raises(StorageError, match=r"s3://busy/out: OSError: .*see that it can be reached"):
            open_store("s3://busy/out").publish(large_file(tmp_path), "data/x")
    fsspec.get_filesystem_class("s3").clear_instance_cache()


def large_file(folder: Path) -> Path:
    path = folder / "file"
    path.write_bytes(b"x")
    return path


def test_other_errors_are_nobodys_place() -> None:
    with pytest.raises(ValueError, match="mine"), raising_storage_errors("there"):
        raise ValueError("mine")
    with pytest.raises(InterruptedError), raising_storage_errors("there"):
        raise InterruptedError(errno.EINTR, "interrupted")
    told = r"there: OSError: Input/output error; .*mend it"
    with pytest.raises(StorageError, match=told), raising_storage_errors("there"):
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_folder_that_somebody_blocks_in_the_middle_stops_the_run(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    (tmp_path / "data").write_text("a file, not a folder")
    with pytest.raises(StorageError, match="something else stands where a folder is needed"):
        store.write("data/a.parquet", b"x")
