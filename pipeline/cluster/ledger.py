"""The ledger of a run: an actor that counts worker deaths by unit, and gives the watermark key to nodes without one."""

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Any

import ray
import ray.exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

DEATHS = 3
"""Worker deaths of one unit after which it is no longer tried."""
MAX_WORKERS = 100_000

_ray: Any = ray  # its overloads lose the types of actor methods


class _LedgerActor:
    """The Ray actor behind a `Ledger`: how often each piece of work was started without an end, and the key."""

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
        """Return at once; the call fails where the actor is gone."""

    async def closed(self) -> None:
        await asyncio.Event().wait()


@dataclass(frozen=True)
class Ledger:
    """Counts worker deaths: work that a worker started and never finished has killed it.

    It also ends the workers: where the driver closes it, or is lost, `wait` returns in each of them. And it holds the
    watermark key for workers whose node has none.
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
        """Record that a worker starts `work`; return how many workers have died of it."""
        return int(_ray.get(self.actor.start.remote(work)))

    def finish(self, work: str) -> None:
        """Record that `work` ended, with success or not, and that its worker is alive."""
        self.actor.finish.remote(work)

    def key(self) -> bytes | None:
        """Return the driver's watermark key."""
        key: bytes | None = _ray.get(self.actor.key.remote())
        return key

    def is_closed(self) -> bool:
        """Whether the driver has closed the ledger or is lost."""
        try:
            _ray.get(self.actor.here.remote())
        except ray.exceptions.RayError:
            return True
        return False

    def wait(self) -> None:
        """Block until the ledger is closed or the driver is lost."""
        with contextlib.suppress(ray.exceptions.RayError):
            _ray.get(self.actor.closed.remote())

    def close(self) -> None:
        """Close the ledger, which ends every worker that still runs."""
        _ray.kill(self.actor)
