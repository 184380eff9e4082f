"""The node's cache: made once, however many ask; never trusted where it is damaged; never needed."""

import multiprocessing
import os
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipeline.model_files.node_cache import cached_tensors


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PALIMPSEST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Maker:
    """Makes other tensors each time, and counts."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Mapping[str, Tensor]:
        self.calls += 1
        return {"a": torch.full((2, 3), float(self.calls)), "b": torch.tensor([1.0 / 3])}


def test_the_first_to_ask_makes_them_for_all(cache: Path) -> None:
    make = Maker()
    for _ in range(3):
        found = cached_tensors(["x", 1], "cpu", make)
        assert torch.equal(found["a"], torch.ones(2, 3)) and torch.equal(found["b"], torch.tensor([1.0 / 3]))
    assert make.calls == 1 and len(list(cache.glob("*.safetensors"))) == 1


def test_another_key_and_another_number_of_threads_are_others(cache: Path) -> None:
    make, before = Maker(), torch.get_num_threads()
    cached_tensors(["x", 1], "cpu", make)
    cached_tensors(["x", 2], "cpu", make)
    try:
        torch.set_num_threads(before + 1)
        cached_tensors(["x", 1], "cpu", make)
    finally:
        torch.set_num_threads(before)
    assert make.calls == 3


def test_a_damaged_file_is_made_again(cache: Path) -> None:
    make = Maker()
    cached_tensors(["x"], "cpu", make)
    (path,) = cache.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:20])
    assert torch.equal(cached_tensors(["x"], "cpu", make)["a"], torch.full((2, 3), 2.0))
    assert torch.equal(cached_tensors(["x"], "cpu", make)["a"], torch.full((2, 3), 2.0)) and make.calls == 2


def test_a_cache_that_cannot_be_written_to_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("PALIMPSEST_CACHE", str(tmp_path / "file" / "cache"))
    make = Maker()
    for calls in (1, 2):
        assert cached_tensors(["x"], "cpu", make)["a"].unique().item() == calls


def test_what_fails_to_be_made_leaves_nothing_and_blocks_nobody(cache: Path) -> None:
    def fail() -> Mapping[str, Tensor]:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        cached_tensors(["x"], "cpu", fail)
    assert not list(cache.glob("*.safetensors"))
    assert cached_tensors(["x"], "cpu", Maker())["a"].unique().item() == 1


def _slowly(folder: Path) -> Mapping[str, Tensor]:
    (folder / str(os.getpid())).write_text("")
    time.sleep(0.5)
    return {"a": torch.ones(1)}


def _ask(folder: Path) -> None:
    cached_tensors(["slow"], "cpu", lambda: _slowly(folder))


def test_processes_that_ask_at_one_time_wait_for_one_of_them(cache: Path, tmp_path: Path) -> None:
    folder = tmp_path / "makers"
    folder.mkdir()
    context = multiprocessing.get_context("spawn")
    asking = [context.Process(target=_ask, args=(folder,)) for _ in range(2)]
    for process in asking:
        process.start()
    for process in asking:
        process.join(60)
        assert process.exitcode == 0
    assert len(list(folder.iterdir())) == 1
