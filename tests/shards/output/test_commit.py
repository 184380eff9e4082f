"""Committed files, opened; and whatever two writers of one unit do to one another, what a marker names is there."""

import hashlib
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.shards.output.commit import (
    UnitFiles,
    damaged_units,
    marker_path,
    open_parquet,
    read_markers,
    remove_orphans,
)
from pipeline.shards.output.store import LocalStore, open_store
from schemas.manifest import UnitRecord
from tests.fixtures.data_sets import contents, plan_of, run_here, write_input, write_recipe
from tests.fixtures.shard_files import photos, write_shard

MARKER = UnitRecord(
    unit="u", digest="d", branch="b", shard=None, first=0, rows=3, selected=3, copies=1, accepted=3, rejected=0,
    quarantined=0, files={},
)  # fmt: skip


def test_an_open_file_holds_no_memory_of_pythons(tmp_path) -> None:
    """Arrow's threads would let go of it while the interpreter ends, which aborts the process now and then."""
    path = tmp_path / "data.parquet"
    write_shard(path, photos(3), labels=[0, 1, 2])
    data = path.read_bytes()
    held = sys.getrefcount(data)
    file = open_parquet(data)
    assert sys.getrefcount(data) == held
    assert file.read(["label"]).column(0).to_pylist() == [0, 1, 2]


class Slow(LocalStore):
    """A folder that does something just before, or just after, a marker is created or looked for."""

    def __init__(self, root: Path, meanwhile: Callable[[], object], at: str) -> None:
        super().__init__(root)
        self._meanwhile, self._at = meanwhile, at

    def create(self, path: str, data: bytes) -> bool:
        if self._at == "before create":
            self._meanwhile()
        return super().create(path, data)

    def exists(self, path: str) -> bool:
        found = super().exists(path)
        if self._at == "after exists":
            at, self._at = self._at, ""
            self._meanwhile()
            assert at
        return found


def commit(store: LocalStore, *folders: str, word: str = "x") -> UnitRecord:
    with UnitFiles(store, "u") as files:
        for folder in folders:
            files.add(folder, pa.table({"word": [word] * 3}))
        return files.commit(MARKER)


def sound(root: Path) -> list[str]:
    """Return the committed files, having made sure that they are what the marker says."""
    store = open_store(str(root))
    (marker,) = read_markers(store).values()
    assert damaged_units(store, {"u": marker}) == {}
    for file in marker.files.values():
        assert hashlib.sha256(store.read(file.path)).hexdigest() == file.sha256
    found = [path for folder in ("data", "rejected", "quarantine") for path in store.list(folder)]
    assert found == [file.path for file in marker.files.values()]
    return found


def test_a_file_that_another_driver_took_for_an_orphan_before_the_marker_is_put_back(tmp_path: Path) -> None:
    other = LocalStore(tmp_path)
    gone: list[bool] = []

    def clean() -> None:
        remove_orphans(other, {"u"})
        gone.append(not other.exists("data/u.parquet"))

    commit(Slow(tmp_path, clean, "before create"), "data")
    assert gone == [True]
    assert sound(tmp_path) == ["data/u.parquet"]


def test_a_marker_that_comes_while_an_orphan_is_removed_keeps_its_file(tmp_path: Path) -> None:
    maker = LocalStore(tmp_path)
    commit(maker, "data")
    (tmp_path / marker_path("u")).rename(tmp_path / "marker")  # the maker stops between file and marker
    late = Slow(tmp_path, lambda: (tmp_path / "marker").rename(tmp_path / marker_path("u")), "after exists")
    remove_orphans(late, {"u"})
    assert sound(tmp_path) == ["data/u.parquet"]


def test_an_orphan_without_any_maker_is_removed(tmp_path: Path) -> None:
    commit(LocalStore(tmp_path), "data", "rejected")
    (tmp_path / marker_path("u")).unlink()
    remove_orphans(LocalStore(tmp_path), {"u"})
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("word", ["x", "another attempt, other bytes"])
def test_two_makers_of_one_unit_leave_what_the_marker_says(tmp_path: Path, word: str) -> None:
    other = LocalStore(tmp_path)
    commit(Slow(tmp_path, lambda: commit(other, "data", "quarantine", word=word), "before create"), "data")
    assert "data/u.parquet" in sound(tmp_path)


def test_what_an_earlier_attempt_left_in_another_folder_goes(tmp_path: Path) -> None:
    commit(LocalStore(tmp_path), "data", "quarantine")
    (tmp_path / marker_path("u")).unlink()
    commit(LocalStore(tmp_path), "data")
    assert sound(tmp_path) == ["data/u.parquet"]


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
