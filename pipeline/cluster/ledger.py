"""The ledger of a run: who is working on what, and the keeper of the watermark key for nodes that have none."""

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Any

import ray
import ray.exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

DEATHS = 3
"""How many workers one unit may kill before it is left out."""
MAX_WORKERS = 100_000

_ray: Any = ray  # its overloads lose the types of actor methods


class _LedgerActor:
    """What the ledger's actor holds: how often each piece of work was started and not finished, and the key."""

    def __init__(self) -> None:
        self._started: dict[str, int] = {}
        self._key: bytes | None = None

    async def keep(self, key: bytes) -> None:
        self._key = key

    async def key(self) -> bytes | None:
        return self._key

    async def start(self, work: str) -> int:
        deaths = self._started.get(work, 0)
        self._started[work] = deaths + 1
        return deaths

    async def finish(self, work: str) -> None:
        self._started.pop(work, None)

    async def here(self) -> None:
        """Answer, as long as there is somebody to answer."""

    async def closed(self) -> None:
        await asyncio.Event().wait()


@dataclass(frozen=True)
class Ledger:
    """A worker announces what it starts and what it finished; what was started and never finished killed its worker.

    It is also the workers' lease on life: where the driver closes it, or is gone, `wait` returns in every worker. And
    it keeps the watermark key for workers whose node has none of its own.
    """

    actor: Any

    @classmethod
    def open(cls, key: bytes | None = None) -> "Ledger":
        """Open a ledger on this node, where it lives as long as the driver."""
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        # Every worker waits in `closed`, and each wait takes one of the concurrent calls.
        remote = _ray.remote(num_cpus=0, max_restarts=0, max_concurrency=MAX_WORKERS)(_LedgerActor)
        ledger = cls(remote.options(scheduling_strategy=here).remote())
        if key is not None:
            # By a call, which goes from process to process: Ray's head stores what an actor is constructed with.
            _ray.get(ledger.actor.keep.remote(key))
        return ledger

    def start(self, work: str) -> int:
        """Note that a worker starts `work`; return how many workers died of it before."""
        return int(_ray.get(self.actor.start.remote(work)))

    def finish(self, work: str) -> None:
        """Note that `work` ended, well or badly, with its worker alive."""
        self.actor.finish.remote(work)

    def key(self) -> bytes | None:
        """Return the driver's watermark key."""
        key: bytes | None = _ray.get(self.actor.key.remote())
        return key

    def is_closed(self) -> bool:
        """Return whether the driver closed the ledger, or is gone."""
        try:
            _ray.get(self.actor.here.remote())
        except ray.exceptions.RayError:
            return True
        return False

    def wait(self) -> None:
        """Return when the ledger is closed."""
        with contextlib.suppress(ray.exceptions.RayError):
            _ray.get(self.actor.closed.remote())

    def close(self) -> None:
        """End the ledger, and with it every worker that is still there."""
        _ray.kill(self.actor)
