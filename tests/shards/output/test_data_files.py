"""Files in the data folders: their sizes, and which of them no record names."""

from pathlib import Path

import pytest

from pipeline.shards.output.data_files import DataFiles
from pipeline.shards.output.store import LocalStore


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    for size, path in enumerate(("data/a", "data/b", "rejected/a", "quarantine/c")):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(bytes(size))
    (tmp_path / "_tmp").mkdir()
    (tmp_path / "_tmp/x").write_bytes(b"x")
    return LocalStore(tmp_path)


def test_sizes_of_what_is_there_and_of_what_is_not(store: LocalStore) -> None:
    files = DataFiles(store)
    assert files.sizes(["data/b", "data/c", "rejected/a", "_tmp/x"]).tolist() == [1, -1, 2, -1]
    assert files.sizes([]).tolist() == []


def test_what_nobody_named_is_left_with_its_size(store: LocalStore) -> None:
    files = DataFiles(store)
    files.sizes(["rejected/a"])
    files.sizes(["data/a"])
    assert [*files.unnamed().items()] == [("data/b", 1), ("quarantine/c", 3)]
    (store.root / "data/later").write_bytes(b"")
    assert [*files.unnamed()] == ["data/b", "quarantine/c"]
    files.sizes(["data/b", "quarantine/c"])
    assert files.unnamed() == {}


def test_an_empty_data_set_has_no_files(tmp_path: Path) -> None:
    files = DataFiles(LocalStore(tmp_path))
    assert files.sizes(["data/a"]).tolist() == [-1] and files.unnamed() == {}
