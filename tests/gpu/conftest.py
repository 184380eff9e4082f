"""Tests of what only a GPU can show. Each is skipped where there is none; none needs Ray or the network.

python -m pytest tests/gpu
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pipeline.devices import set_deterministic
from tests.fixtures.arithmetic import arithmetic_kept

SAID_ONLY = (
    "default:.*deterministic:UserWarning",  # an operation without an order of its own: byte tests judge that
    "ignore:`torch.jit.script` is deprecated:DeprecationWarning",  # diffusers 0.42 under torch 2.11
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            for line in SAID_ONLY:
                item.add_marker(pytest.mark.filterwarnings(line))


@pytest.fixture(autouse=True)
def gpu() -> Iterator[None]:
    """A GPU, with the arithmetic that a branch pins; everything is put back afterwards."""
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    with arithmetic_kept():
        set_deterministic("cuda", threads=1)
        yield
    torch.cuda.empty_cache()
