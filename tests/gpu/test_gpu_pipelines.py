"""A diffusers folder in the layout of Stable Diffusion on the GPU: near the CPU's images, in halves too."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from palimpsest.testing.operators import make_batch
from pipeline.contracts import Assets
from pipeline.operators.diffusion.diffusion_edit import DiffusionEdit, DiffusionEditParams
from tests.fixtures.tiny_models import OWN_WARNING
from tests.gpu.on_gpu import applied

pytestmark = pytest.mark.filterwarnings(OWN_WARNING)


def _made(folder: Path, device: str, dtype: str = "float32", **params: Any) -> npt.NDArray[np.int16]:
    told = {"model": str(folder), "steps": 4, "strength_range": (0.5, 1.0), "guidance": 3.0, **params}
    operator = DiffusionEdit(DiffusionEditParams(**told))
    assets = Assets(models={"model": folder}, micro_batch=4)
    operator.load(device, replace(assets, dtype=dtype))  # type: ignore[arg-type]
    return applied(operator, make_batch([0, 1, 2, 3], (16, 16), 3), device)


@pytest.mark.parametrize("kind", ["stable", "large", "third", "dit", "pixel"])
def test_the_gpu_makes_what_the_cpu_makes(kind: str, tiny: Callable[[str], Path]) -> None:
    guidance = {} if kind != "pixel" else {"guidance": None}
    here, there = _made(tiny(kind), "cuda", **guidance), _made(tiny(kind), "cpu", **guidance)
    assert there.std() > 1 and np.abs(here - there).max() <= 3


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_same_images_again(dtype: str, tiny: Callable[[str], Path]) -> None:
    first, again = _made(tiny("stable"), "cuda", dtype), _made(tiny("stable"), "cuda", dtype)
    assert first.std() > 1 and (first == again).all()
