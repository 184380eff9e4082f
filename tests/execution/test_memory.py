"""Calls that run out of memory: they are halved, rows keep their order and seeds, and none is lost."""

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from palimpsest.testing.operators import assert_near
from pipeline.contracts import Applied, Draws, ImageBatch
from pipeline.execution.micro_batches import out_of_memory
from pipeline.noise import Noise
from pipeline.operators.diffusion.diffusion_edit import DiffusionEdit
from pipeline.registry import OPERATORS
from pipeline.shards.images.codecs import decode
from schemas.manifest import Failure, UnitRecord
from tests.fixtures.data_sets import plan_of, rows_of, run_here, write_input, write_recipe
from tests.operators.diffusion.test_diffusion_generate import assets_in

pytestmark = pytest.mark.usefixtures("one_thread")

ERRORS: dict[str, Callable[[], Exception]] = {
    "cuda": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "cpu": lambda: RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 B"),
    "library": lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"),
    "python": MemoryError,
}


class Hungry(DiffusionEdit):
    """The operator on a device with room for `limit` images."""

    limit: ClassVar[int] = 3
    error: ClassVar[str] = "cuda"
    held: ClassVar[list[Any]] = []
    calls: ClassVar[list[int]] = []

    def apply(self, batch: ImageBatch, draws: Draws, noise: Noise) -> Applied:
        assert not any(each() is not None for each in self.held), "a failed call's tensors are still in memory"
        self.calls.append(len(batch))
        if len(batch) > self.limit:
            large = torch.zeros(8)
            self.held.append(weakref.ref(large))
            raise ERRORS[self.error]()
        return super().apply(batch, draws, noise)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_input(tmp_path / "data", shards=1, rows=12)
    assets_in(tmp_path, ("cat", "dog", "owl"))
    monkeypatch.setitem(OPERATORS, "hungry_edit", "tests.execution.test_memory:Hungry")
    Hungry.held.clear()
    Hungry.calls.clear()
    return tmp_path


def made(folder: Path, operator: str) -> list[UnitRecord | Failure]:
    params = {"model": "tiny.safetensors", "steps": 4, "strength_range": [0.5, 0.5]}
    branch = {"name": "edited", "copies": 1, "operators": [{operator: params}]}
    plan = plan_of(write_recipe(folder, [branch], output={"uri": operator, "rows_per_unit": 12}))
    return run_here(plan)[1]


@pytest.mark.parametrize("error", sorted(ERRORS))
def test_a_call_without_memory_is_halved_and_every_row_comes_out(folder: Path, error: str) -> None:
    (whole,) = made(folder, "diffusion_edit")
    Hungry.error, Hungry.limit = error, 3
    (halved,) = made(folder, "hungry_edit")
    assert isinstance(whole, UnitRecord) and isinstance(halved, UnitRecord)
    assert whole.exact and not halved.exact
    assert (halved.accepted, halved.quarantined) == (12, 0)
    assert max(size for size in Hungry.calls if size <= 3) == 3 and 12 in Hungry.calls
    for row, other in zip(rows_of(folder / "diffusion_edit"), rows_of(folder / "hungry_edit"), strict=True):
        assert row["source_row"] == other["source_row"] and row["steps"][0]["seed"] == other["steps"][0]["seed"]
        images = [decode(each["image"]["bytes"], 10**6) for each in (row, other)]
        assert_near(images[1], images[0], 1)
        assert np.ptp(images[0]) > 0


@pytest.mark.parametrize("error", sorted(ERRORS))
def test_memory_for_not_even_one_image_fails_the_unit_and_quarantines_nothing(folder: Path, error: str) -> None:
    Hungry.error, Hungry.limit = error, 0
    (failure,) = made(folder, "hungry_edit")
    assert isinstance(failure, Failure) and "out of memory with a single image" in failure.error
    assert not (folder / "hungry_edit" / "quarantine").exists() or not rows_of(folder / "hungry_edit", "quarantine")


def test_other_errors_are_not_about_memory() -> None:
    for error in (RuntimeError("shapes do not match"), ValueError("out of memory"), KeyError("a")):
        assert not out_of_memory(error)
