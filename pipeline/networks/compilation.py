"""Networks compiled for fixed shapes: a call is padded to one of two batch sizes, so later calls never recompile.

A compiled call differs from a plain one in its last bits. Padding gives every call of a micro-batch the same code, in
whatever order units come to an actor.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pipeline.errors import ModelError


def check_compiler(device: str) -> None:
    """Raise ModelError where this machine cannot compile for a device, as one line."""
    try:
        torch.compile(_one_more, dynamic=False)(torch.zeros(8, device=device))
    except Exception as error:  # whatever the compiler's many parts raise
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ModelError(f"compile: nothing can be compiled here ({first[:200]}); leave `compile` out") from None


def _one_more(values: Tensor) -> Tensor:
    return values + 1


class FixedShapes:
    """A function of tensors [N, ...] compiled for `rows` and for twice as many; fewer are padded with the last one."""

    def __init__(self, function: Callable[..., Tensor], rows: int) -> None:
        self._compiled: Callable[..., Tensor] = torch.compile(function, dynamic=False)
        self._rows = rows

    def __call__(self, *given: Tensor | None) -> Tensor:
        """Return the function's result for N rows, N at most twice `rows`."""
        count = next(len(each) for each in given if each is not None)
        rows = self._rows if count <= self._rows else 2 * self._rows
        return self._compiled(*(None if each is None else padded(each, rows) for each in given))[:count]


def padded(values: Tensor, rows: int) -> Tensor:
    """Values [N, ...] with the last row repeated up to `rows`, in memory of their own."""
    more = rows - len(values)
    whole = torch.cat([values, values[-1:].expand(more, *values.shape[1:])]) if more > 0 else values
    return whole.clone(memory_format=torch.contiguous_format)


def compile_network(pipeline: Any) -> None:
    """Compile the denoising network of a pipeline, in place. Raises ModelError where it has none."""
    network = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
    if network is None:
        raise ModelError(f"compile: {type(pipeline).__name__} has no network that can be compiled; leave `compile` out")
    network.compile(dynamic=False)
