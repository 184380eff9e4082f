"""The actor that stands for the driver: workers end when it is gone, and ask it for the watermark key."""

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Any

import ray
import ray.exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

MAX_WORKERS = 100_000

_ray: Any = ray  # its overloads lose the types of actor methods


class _DriverActor:
    """The Ray actor behind a `DriverActor`."""

    def __init__(self) -> None:
        self._key: bytes | None = None

    async def keep(self, key: bytes) -> None:
        self._key = key

    async def key(self) -> bytes | None:
        return self._key

    async def closed(self) -> None:
        await asyncio.Event().wait()


@dataclass(frozen=True)
class DriverActor:
    """Lives as long as the run: where the driver closes it, or is lost, `wait` returns in every worker.

    It holds the watermark key for workers whose node has none.
    """

    actor: Any

    @classmethod
    def open(cls, key: bytes | None = None) -> "DriverActor":
        """Start the actor on this node."""
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        # Every worker waits in `closed`, and each wait takes one of the concurrent calls.
        remote = _ray.remote(num_cpus=0, max_restarts=0, max_concurrency=MAX_WORKERS)(_DriverActor)
        opened = cls(remote.options(scheduling_strategy=here).remote())
        if key is not None:
            # By a call, which goes from process to process: Ray's head stores what an actor is constructed with.
            _ray.get(opened.actor.keep.remote(key))
        return opened

    def key(self) -> bytes | None:
        """Return the driver's watermark key."""
        key: bytes | None = _ray.get(self.actor.key.remote())
        return key

    def wait(self) -> None:
        """Block until the run is over or the driver is lost."""
        with contextlib.suppress(ray.exceptions.RayError):
            _ray.get(self.actor.closed.remote())

    def close(self) -> None:
        """End every worker that still runs."""
        _ray.kill(self.actor)
