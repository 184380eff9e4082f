"""Which samples go into one call of an operator or gate, in what order, and what happens where the call fails."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pipeline.errors import JobError, RowError, RunError, UnitError
from pipeline.messages import format_traceback

T = TypeVar("T")
A = TypeVar("A")
_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory|ALLOC_FAILED", re.IGNORECASE)
"""Texts of RuntimeErrors that PyTorch's CPU allocator and CUDA's libraries raise where memory ran out."""


@dataclass
class ComputeReport:
    """Seconds spent inside operators and gates, and whether every micro-batch had its planned size."""

    busy_s: float = 0.0
    exact: bool = True


def grouped(items: Iterable[T], key: Callable[[T], object]) -> list[list[T]]:
    """Return the items in groups of one key each, by first appearance; the order inside a group is kept."""
    found: dict[object, list[T]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return list(found.values())


def micro_batches(items: Iterable[T], key: Callable[[T], object], size: int) -> Iterator[list[T]]:
    """Yield the items of each call: of one key, at most `size` of them, in the order of `grouped`.

    The order depends on the items alone, so a unit has the same micro-batches on every machine.
    """
    for group in grouped(items, key):
        for first in range(0, len(group), size):
            yield group[first : first + size]


def call_in_halves(
    rows: Sequence[T], call: Callable[[Sequence[T]], A], name: str, code: str, device: str, report: ComputeReport
) -> Iterator[tuple[Sequence[T], A | RowError]]:
    """Call with `rows`, and where that fails with their halves, until memory suffices or the one bad row is found.

    Yields some of the rows with the result of their call; a single row that fails has a RowError instead.

    Args:
        name: of the operator or gate that is called, for messages.
        code: of the RowError.
        report: `exact` becomes False where a call fails.

    Raises:
        UnitError: memory ran out with a single row.
        JobError, RunError: `call` raised it.
    """
    answer: A | RowError | None = None
    try:
        answer = call(rows)
    except (JobError, RunError):
        raise
    except Exception as error:
        report.exact = False
        if len(rows) == 1 and out_of_memory(error):
            raise UnitError(f"{name}: out of memory with a single image: {error}") from error
        if len(rows) == 1:
            answer = RowError(code, f"{name}: {type(error).__name__}: {error}")
            answer.part, answer.traceback_text = name, format_traceback(error)  # its frames hold tensors
    if answer is not None:
        yield rows, answer
        return
    release_memory(device)  # the error is gone here, and with it the failed call's tensors, which its frames held
    middle = len(rows) // 2
    for half in (rows[:middle], rows[middle:]):
        yield from call_in_halves(half, call, name, code, device, report)


def out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out, on whatever device."""
    by_type = type(error).__name__ in ("OutOfMemoryError", "AcceleratorError")
    return (
        by_type
        or isinstance(error, MemoryError)
        or bool(isinstance(error, RuntimeError) and _MEMORY.search(str(error)))
    )


def release_memory(device: str) -> None:
    """Return a GPU allocator's unused memory to the device, so that smaller calls can use it."""
    if device != "cpu":
        import torch

        torch.cuda.empty_cache()
