"""What makes bytes beside a recipe: versions, device models, pinned arithmetic."""

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.audit.replay import device_asked_for, replay_sample
from pipeline.devices import WORKSPACE, device_for_model, device_model, installed_versions, processor, set_deterministic
from pipeline.shards.output.store import open_store
from schemas.manifest import UnitRecord
from tests.fixtures.arithmetic import PARTS, arithmetic_kept
from tests.fixtures.commit_logs import update
from tests.fixtures.data_sets import plan_of, rows_of, run_here, write_input, write_recipe


@pytest.fixture
def arithmetic() -> Iterator[None]:
    """Put everything back that a test pins."""
    with arithmetic_kept():
        yield


def _state() -> list[object]:
    backends = torch.backends
    precisions = [part.fp32_precision for part in PARTS]
    return [
        *precisions, backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32, backends.cudnn.benchmark,
        backends.cudnn.deterministic, torch.are_deterministic_algorithms_enabled(), os.environ.get(WORKSPACE),
    ]  # fmt: skip


def test_a_gpu_branch_computes_in_whole_float32_in_one_order(arithmetic: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORKSPACE, ":4096:2")  # which adds in any order
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
    set_deterministic("cuda", threads=2)
    assert torch.get_num_threads() == 2
    assert _state() == ["ieee", "ieee", "ieee", False, False, False, True, True, ":4096:8"]
    assert torch.is_deterministic_algorithms_warn_only_enabled()
    set_deterministic("cuda", threads=2, tf32=True)
    assert _state() == ["tf32", "tf32", "tf32", True, True, False, True, True, ":4096:8"]
    set_deterministic("cuda", threads=2)
    assert _state()[:5] == ["ieee", "ieee", "ieee", False, False]


def test_a_cpu_branch_sets_its_threads_and_nothing_of_a_gpu(arithmetic: None) -> None:
    before = _state()
    set_deterministic("cpu", threads=2)
    assert torch.get_num_threads() == 2 and _state() == before


def test_what_is_not_installed_has_no_version() -> None:
    assert installed_versions(["numpy", "no-such-package"]).keys() == {"numpy"}


def test_a_data_set_says_which_device_made_it_and_replay_which_made_it_again(tmp_path: Path) -> None:
    write_input(tmp_path / "data", shards=1, rows=6)
    manifest, (record,) = run_here(plan_of(write_recipe(tmp_path)))
    assert isinstance(record, UnitRecord)
    assert record.device == device_model("cpu") == f"cpu ({processor()})"
    assert manifest.devices == [record.device]
    store, sample = open_store(str(tmp_path / "out")), rows_of(tmp_path / "out")[0]["sample_id"]
    made = replay_sample(store, sample)
    assert (made.stored_device, made.replayed_device, made.other_device) == (record.device, record.device, False)
    update(tmp_path / "out", record.unit, device="cpu (of another make)")
    made = replay_sample(store, sample)
    assert made.equal and made.other_device and made.stored_device == "cpu (of another make)"
    update(tmp_path / "out", record.unit, device="")
    made = replay_sample(store, sample)  # as where the record was read from the unit's own file
    assert made.equal and made.stored_device == "" and not made.other_device


@pytest.mark.parametrize(
    ("resources", "device"),
    [({}, "cpu"), ({"flip": {"gpus": 0.25}}, "cuda"), ({"flip": {"gpus": 1}, "flipped": {"gpus": 0}}, "cpu")],
)
def test_a_branch_of_unknown_device_is_made_again_as_the_recipe_asks(
    tmp_path: Path, resources: dict[str, Any], device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_input(tmp_path / "data", shards=1, rows=6)
    plan = plan_of(write_recipe(tmp_path, resources=resources))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_asked_for(plan.recipe, plan.branches[0]) == device


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_what_a_gpu_made_is_made_again_on_the_cpu_where_there_is_none() -> None:
    for model in ("NVIDIA H100 80GB HBM3", "", "cpu (AMD EPYC)"):
        assert device_for_model(model) == "cpu"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_freed_memory_is_used_again_without_new_pages() -> None:
    """Fifty times 4 MB, one after another: page faults of about one of them, where it is all of them else."""
    script = """
import resource, sys
from pipeline.devices import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def faults():
    for _ in range(50):
        parts = [bytearray(200_000) for _ in range(20)]
        del parts
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
before = faults()
print(faults() - before)
"""
    found = [
        int(subprocess.run([sys.executable, "-c", script, how], capture_output=True, text=True, check=True).stdout)
        for how in ("keep", "give back")
    ]
    assert found[0] < 1_000 < 10_000 < found[1]
