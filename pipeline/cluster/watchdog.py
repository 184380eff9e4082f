"""A watchdog over Ray's own processes: without it their loss ends the driver without a message.

Ray's native part ends a driver by `_exit(1)` 60 seconds after it lost the head, 10 to 15 after it lost its raylet.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ray

from pipeline.monitoring.stopping import Stopped, exit_now, stop

_ray: Any = ray

PROBE_EVERY_S = 0.5
PROBE_TIMEOUT_S = 5.0
PUBLISH_WITHIN_S = 8.0
"""Seconds the main thread has to publish what is there, before Ray ends a driver without a raylet."""


@dataclass(frozen=True)
class RayProcess:
    """A process of Ray that the run needs: its name, where it listens, and how long it may be silent."""

    name: str
    address: tuple[str, int]
    allowed_absence_s: float

    def answers(self) -> bool:
        try:
            with socket.create_connection(self.address, timeout=PROBE_TIMEOUT_S):
                return True
        except OSError:
            return False


class Watchdog:
    """Probes every process until `close`, and stops the main thread where one no longer answers.

    Attributes:
        lost: the error that names the lost process; None while all answer.
    """

    def __init__(self, processes: Sequence[RayProcess]) -> None:
        self.lost: Stopped | None = None
        self._processes = processes
        self._closed = threading.Event()
        threading.Thread(target=self._probe_until_closed, name="watch over Ray", daemon=True).start()

    def probe(self) -> Stopped | None:
        """Return the error of a lost process, after one more probe of each; None where all answer."""
        if self.lost is None:
            self.lost = next((_lost(process) for process in self._processes if not process.answers()), None)
        return self.lost

    def close(self) -> None:
        self._closed.set()

    def _probe_until_closed(self) -> None:
        silent_since: dict[RayProcess, float] = {}
        while not self._closed.wait(PROBE_EVERY_S) and self.lost is None:
            for process in self._processes:
                if process.answers():
                    silent_since.pop(process, None)
                elif time.monotonic() - silent_since.setdefault(process, time.monotonic()) >= process.allowed_absence_s:
                    self.lost = _lost(process)
        if self.lost is None or self._closed.is_set():
            return
        stop(self.lost)
        if not self._closed.wait(PUBLISH_WITHIN_S):  # the main thread still waits for the lost process
            exit_now(str(self.lost), self.lost.status)


def _lost(process: RayProcess) -> Stopped:
    return Stopped(
        f"{process.name} at {process.address[0]}:{process.address[1]} is gone (killed, or out of memory)",
        1,
        abrupt=True,
    )


_watchdog: Watchdog | None = None


def is_lost() -> bool:
    """Whether the Ray that this process is connected to was lost, so that no call to it would return."""
    return _watchdog is not None and _watchdog.lost is not None


@contextlib.contextmanager
def watched(own: bool) -> Iterator[Watchdog]:
    """Watch over the Ray that this process is connected to.

    Args:
        own: this process started it, so nobody will start a lost part again, and little time is allowed.
    """
    global _watchdog
    context = ray.get_runtime_context()
    host, _, port = context.gcs_address.rpartition(":")
    node = next(node for node in _ray.nodes() if node["NodeID"] == context.get_node_id())
    watchdog = Watchdog(
        (
            RayProcess(
                "Ray's raylet on this node", (node["NodeManagerAddress"], node["NodeManagerPort"]), 1.0 if own else 5.0
            ),
            # A head of a cluster may be started again; Ray itself waits a minute for it.
            RayProcess("Ray's control store (GCS)", (host.strip("[]"), int(port)), 1.0 if own else 45.0),
        )
    )
    _watchdog = watchdog
    try:
        yield watchdog
    finally:
        if watchdog.lost is None:
            watchdog.close()
            _watchdog = None
