"""A watch over Ray's own processes: without it their loss ends the driver in silence.

Ray's native part ends a driver by `_exit(1)`: 60 seconds after it lost the head, 10 to 15 after it lost its raylet.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ray

from pipeline.monitoring.stopping import Stopped, leave, stop

_ray: Any = ray

KNOCK_EVERY_S = 0.5
KNOCK_S = 5.0
LEAVE_S = 8.0
"""How long the main thread has to publish what is there: Ray ends a driver without a raylet 10 to 15 seconds later."""


@dataclass(frozen=True)
class Post:
    """A process that the run stands on: where it listens, and how long it may be away."""

    name: str
    address: tuple[str, int]
    patience_s: float

    def answers(self) -> bool:
        try:
            with socket.create_connection(self.address, timeout=KNOCK_S):
                return True
        except OSError:
            return False


class Watch:
    """Knocks at every post until `close`; where one is gone, stops the main thread with one line.

    Attributes:
        lost: what is gone, as `Stopped` for whoever meets its consequences first; None while all answer.
    """

    def __init__(self, posts: Sequence[Post]) -> None:
        self.lost: Stopped | None = None
        self._posts = posts
        self._closed = threading.Event()
        threading.Thread(target=self._keep, name="watch over Ray", daemon=True).start()

    def look(self) -> Stopped | None:
        """Return what is lost, after a last knock where nobody noticed yet."""
        if self.lost is None:
            self.lost = next((_lost(post) for post in self._posts if not post.answers()), None)
        return self.lost

    def close(self) -> None:
        self._closed.set()

    def _keep(self) -> None:
        away: dict[Post, float] = {}
        while not self._closed.wait(KNOCK_EVERY_S) and self.lost is None:
            for post in self._posts:
                if post.answers():
                    away.pop(post, None)
                elif time.monotonic() - away.setdefault(post, time.monotonic()) >= post.patience_s:
                    self.lost = _lost(post)
        if self.lost is None or self._closed.is_set():
            return
        stop(self.lost)
        if not self._closed.wait(LEAVE_S):  # the main thread waits for what is gone
            leave(str(self.lost), self.lost.status)


def _lost(post: Post) -> Stopped:
    return Stopped(
        f"{post.name} at {post.address[0]}:{post.address[1]} is gone (killed, or out of memory)", 1, abrupt=True
    )


_watch: Watch | None = None


def is_lost() -> bool:
    """Return whether the Ray that this process is connected to is gone: nobody is there who could be told anything."""
    return _watch is not None and _watch.lost is not None


@contextlib.contextmanager
def watching(own: bool) -> Iterator[Watch]:
    """Watch the Ray that this process is connected to; one of our `own` is brought back by nobody."""
    global _watch
    context = ray.get_runtime_context()
    host, _, port = context.gcs_address.rpartition(":")
    node = next(node for node in _ray.nodes() if node["NodeID"] == context.get_node_id())
    watch = Watch(
        (
            Post(
                "Ray's raylet on this node", (node["NodeManagerAddress"], node["NodeManagerPort"]), 1.0 if own else 5.0
            ),
            # A head of a cluster may be started again; Ray itself waits a minute for it.
            Post("Ray's control store (GCS)", (host.strip("[]"), int(port)), 1.0 if own else 45.0),
        )
    )
    _watch = watch
    try:
        yield watch
    finally:
        if watch.lost is None:
            watch.close()
            _watch = None
