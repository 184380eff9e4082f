"""Threads that decode the next window and encode the last one while the model computes."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


class BackgroundThreads:
    """Threads for decoding and encoding beside the model; with one CPU core everything runs in the caller's thread.

    Args:
        cpus: cores the actor may use.
        device: of the model; `cpu` with one core gets no threads.
    """

    def __init__(self, cpus: float, device: str) -> None:
        self._threads = 0 if device == "cpu" and cpus <= 1 else max(2, int(cpus))
        self._codecs: ThreadPoolExecutor | None = None
        self._reader: ThreadPoolExecutor | None = None
        self._writer: ThreadPoolExecutor | None = None

    def __enter__(self) -> "BackgroundThreads":
        if self._threads:
            self._codecs = ThreadPoolExecutor(self._threads, thread_name_prefix="codec")
            self._reader = ThreadPoolExecutor(1, thread_name_prefix="reader")
            self._writer = ThreadPoolExecutor(1, thread_name_prefix="writer")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for pool in (self._reader, self._writer, self._codecs):
            if pool is not None:
                pool.shutdown(cancel_futures=True)

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterable[R]:
        """Apply `function` to every item, in order."""
        return map(function, items) if self._codecs is None else self._codecs.map(function, items)

    def prefetch(self, items: Iterator[T]) -> Iterator[T]:
        """Yield `items`; the next one is made in a thread while the caller uses the last."""
        if self._reader is None:
            yield from items
            return
        coming = self._reader.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = self._reader.submit(next, items, None)
            yield item

    def map_in_background(self, function: Callable[[T], R], items: Iterator[T]) -> Iterator[R]:
        """Yield `function` of every item, in order; it runs in a thread while the caller makes the next item."""
        if self._writer is None:
            yield from map(function, items)
            return
        before: Future[R] | None = None
        for item in items:
            coming = self._writer.submit(function, item)
            if before is not None:
                yield before.result()
            before = coming
        if before is not None:
            yield before.result()
