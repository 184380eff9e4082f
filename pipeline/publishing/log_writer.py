"""The driver's part of the commit log: units that ended are put into it every few seconds."""

import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

from pipeline.errors import PalimpsestError
from pipeline.shards.output.commit_log import Announce, append, tell_nobody
from pipeline.shards.output.store import Store
from schemas.manifest import Failure, UnitRecord

FLUSH_S = 5.0
"""Seconds that a record waits at most while units keep ending."""
MAX_RECORDS = 1_024
MAX_BYTES = 8 << 20
"""Bytes of sample ids and payloads from which on records are written at once."""


class LogWriter:
    """Collects the records of units as they end, and writes segments; what is left is written at the end of its `with`.

    A unit whose record was not written yet is not lost with the driver: see `pipeline.publishing.recovery`.

    Args:
        run: number of this run.
        check: called before a segment is written; raises where this driver may write no longer.
        announce: called then with the segment's path.
    """

    def __init__(
        self,
        store: Store,
        run: int,
        check: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        announce: Announce = tell_nobody,
    ) -> None:
        self._store, self._run, self._check, self._clock, self._announce = store, run, check, clock, announce
        self._records: list[UnitRecord] = []
        self._bytes = 0
        self._flushed = clock()
        self.segments: list[str] = []

    def __enter__(self) -> "LogWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with suppress(*([PalimpsestError] if error is not None else [])):  # the first error is the one that is raised
            self.flush()

    def add(self, outcome: UnitRecord | Failure) -> None:
        """Add a unit that ended."""
        if isinstance(outcome, Failure):
            return
        self._records.append(outcome.model_copy(update={"run": self._run}))
        self._bytes += len(outcome.sample_ids) + len(outcome.payloads)
        full = len(self._records) >= MAX_RECORDS or self._bytes >= MAX_BYTES
        if full or self._clock() - self._flushed >= FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Write a segment of the records that wait.

        Raises:
            ConflictError, StorageError: as `check`; or the storage failed.
        """
        if self._records:
            self._check()
            path = append(self._store, self._records, self._announce)
            self.segments += [path] if path is not None else []
            self._records, self._bytes = [], 0
        self._flushed = self._clock()
