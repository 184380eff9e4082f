"""The speed of a run over its last minutes, which the driver's heartbeat carries to `palimpsest status`."""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from schemas.manifest import Failure, UnitRecord

WINDOW_S = 300.0
"""Seconds over which the speed is measured, at most."""
BUCKET_S = 5.0
"""Seconds that are counted together, so that memory does not grow with the number of units."""


class RecentSpeed:
    """Counts images and units of the last `WINDOW_S` seconds; may be read from another thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._started = clock, clock()
        self._buckets: deque[list[float]] = deque()  # start, images, units
        self._units = self._failed = 0
        self._lock = threading.Lock()

    def add(self, outcome: UnitRecord | Failure) -> None:
        """Count a unit that ended."""
        with self._lock:
            now = self._clock()
            if not self._buckets or now - self._buckets[-1][0] >= BUCKET_S:
                self._buckets.append([now, 0, 0])
                self._drop_old(now)
            if isinstance(outcome, Failure):
                self._failed += 1
            else:
                self._units += 1
                self._buckets[-1][1] += outcome.accepted + outcome.rejected + outcome.retried
                self._buckets[-1][2] += 1

    def record(self) -> dict[str, Any]:
        """Return `images_per_s` and `units_per_min` over the last `over_s` seconds, and counts since the start."""
        with self._lock:
            now = self._clock()
            self._drop_old(now)
            over = min(WINDOW_S, now - self._started)
            images, units = (sum(bucket[at] for bucket in self._buckets) for at in (1, 2))
            return {
                "units_done": self._units,
                "units_failed": self._failed,
                "over_s": round(over, 1),
                "images_per_s": round(images / over, 3) if over > 0 else 0.0,
                "units_per_min": round(60 * units / over, 3) if over > 0 else 0.0,
            }

    def _drop_old(self, now: float) -> None:
        while self._buckets and now - self._buckets[0][0] >= WINDOW_S:
            self._buckets.popleft()
