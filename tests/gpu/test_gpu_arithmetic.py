"""What a branch computes with on a GPU: whole float32 unless the recipe says otherwise, halves near it."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pipeline.devices import set_deterministic
from pipeline.execution.job import Job
from pipeline.execution.worker import Worker
from pipeline.publishing.prepare import prepare
from pipeline.shards.output.store import open_store
from tests.gpu.on_gpu import ADAIN, EDIT, gpu_plan, images_in, made

FLOAT32, TF32 = 1e-5, 1e-4
"""Relative root mean square errors: below the first (3e-6 by Winograd's convolution), above the second (4e-4)."""


def _errors() -> tuple[float, float]:
    """Relative errors of a product of matrices and of a convolution of float32, against float64 on the CPU."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(512, 512, generator=generator) for _ in range(2))
    images, filters = torch.randn(8, 128, 32, 32, generator=generator), torch.randn(128, 128, 3, 3, generator=generator)
    product, convolved = left.double() @ right.double(), F.conv2d(images.double(), filters.double())
    found = (left.cuda() @ right.cuda()).cpu(), F.conv2d(images.cuda(), filters.cuda()).cpu()
    return tuple(
        float((each.double() - exact).norm() / exact.norm())
        for each, exact in zip(found, (product, convolved), strict=True)
    )  # type: ignore[return-value]


def test_a_branch_that_loads_takes_tf32_off_whatever_was_set_before(tmp_path: Path) -> None:
    set_deterministic("cuda", threads=1, tf32=True)
    torch.backends.cudnn.benchmark = True
    assert min(_errors()) > TF32 or torch.cuda.get_device_capability() < (8, 0)
    plan = gpu_plan(tmp_path, "out", [{"name": "restyled", "copies": 1, "operators": [ADAIN]}])
    prepare(plan, open_store(plan.output))
    Worker(Job.of(plan), plan.branches[0], "cuda").load()
    assert max(_errors()) < FLOAT32
    assert not torch.backends.cuda.matmul.allow_tf32 and not torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.deterministic and not torch.backends.cudnn.benchmark


def test_the_recipe_can_ask_for_tf32_and_the_digests_say_so(tmp_path: Path) -> None:
    branches = [{"name": "restyled", "copies": 1, "operators": [ADAIN]}]
    exact = gpu_plan(tmp_path, "float32", branches)
    made(exact)
    rough = gpu_plan(tmp_path, "tf32", branches, numerics={"tf32": True})
    assert not {unit.digest for unit in rough.units} & {unit.digest for unit in exact.units}
    made(rough)
    if torch.cuda.get_device_capability() >= (8, 0):
        assert min(_errors()) > TF32
    for one, other in zip(images_in(tmp_path / "float32"), images_in(tmp_path / "tf32"), strict=True):
        assert np.abs(one - other).mean() < 1  # grey levels


@pytest.mark.parametrize(("operator", "bound"), [(EDIT, 2.0), (ADAIN, 5.0)], ids=["diffusion_edit", "adain_style"])
def test_bfloat16_is_near_float32(tmp_path: Path, operator: dict[str, object], bound: float) -> None:
    branches = [{"name": "made", "copies": 1, "operators": [operator]}]
    for dtype in ("float32", "bfloat16"):
        made(gpu_plan(tmp_path, dtype, branches, numerics={"dtype": dtype}))
    pairs = zip(images_in(tmp_path / "float32"), images_in(tmp_path / "bfloat16"), strict=True)
    distances = [np.abs(whole - half).mean() for whole, half in pairs]
    assert 0 < np.mean(distances) < bound  # grey levels, the mean over all pixels
