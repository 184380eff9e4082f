"""The dispatcher: one loop that starts actors where there is capacity, sends units to them, and replaces the dead."""

import logging
import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
import ray.exceptions

from pipeline.cluster.actor import UnitActor
from pipeline.cluster.driver_actor import DriverActor
from pipeline.cluster.metrics_export import add
from pipeline.cluster.node_capacity import may_grow, node_capacities
from pipeline.cluster.scheduling import Pool, actors_to_add
from pipeline.cluster.unit_queue import DEATHS, ReadingPlaces, UnitQueue
from pipeline.cluster.watchdog import is_lost
from pipeline.errors import JobError, RunError
from pipeline.execution.job import Job
from pipeline.execution.worker import write_failure
from pipeline.messages import counted, listed
from pipeline.monitoring.metrics import WORKERS
from pipeline.monitoring.stopping import RESUMES
from pipeline.plan import Unit
from schemas.manifest import Failure, UnitRecord

SPARE_DEATHS = 10
"""Worker deaths of a branch allowed beside those that its units may cause, such as the loss of a node."""
LOOK_EVERY_S = 5.0
"""Seconds between two looks at the nodes of the cluster, while a branch could use more."""
STALLED_AFTER_S = 60.0
"""Seconds without an actor that is ready, after which the log says so."""
IN_FLIGHT = 2
"""Units an actor holds at most: one that runs, and one that waits so that it never waits for the driver."""
AHEAD = 64
"""Actors of a branch that may wait for nodes which an autoscaler is to add: it sees what waits, nothing else."""
WEIGHT_OF_LAST = 0.1
"""Weight of the last unit's time in the mean of its branch."""
DIED = "its worker process died {times} (killed, out of memory, or a fault in native code)"
OVERDUE = "it ran longer than quality.unit_timeout_s ({limit:g} s) {{times}}"

_log = logging.getLogger(__name__)
_ray: Any = ray
_LOST = (
    ray.exceptions.RayActorError,
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.OutOfMemoryError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.ObjectLostError,
)
"""What a call raises whose actor, or whose answer, is gone."""


@dataclass(eq=False)
class _Actor:
    """An actor of a branch. `calls` are what it has not answered yet: its node's name, then its load, then units."""

    branch: "_Branch"
    handle: Any
    calls: deque[tuple[Any, int | None]]  # with the unit's index; None: no unit
    loading_deaths: int  # of actors in whose place this one is, while they loaded
    node: str = ""  # its name; empty: it has not said it yet
    loaded: bool = False
    since: float = 0.0  # when its first unit began to run, monotonic
    unit_s: float = 0.0  # how long its last unit took


@dataclass(eq=False)
class _Branch:
    """A branch of the run: its units that are still to be sent, and its actors."""

    pool: Pool
    queue: UnitQueue
    units: int
    actors: dict[_Actor, None] = field(default_factory=dict)  # in the order in which they were started
    unit_s: float = 0.0  # how long a unit takes, mean of the last ones
    deaths: int = 0
    loading_deaths: list[int] = field(default_factory=list)  # of places that are to be taken again

    @property
    def name(self) -> str:
        return self.pool.branch.name

    def wanted(self) -> int:
        """Return how many more actors are of use, whatever the capacity."""
        limit = self.pool.branch.actors
        loading = sum(not actor.loaded for actor in self.actors)
        left = len(self.queue) - loading
        return max(0, left if limit is None else min(left, limit - len(self.actors)))

    def without_node(self) -> list[_Actor]:
        """Return the actors that have not said where they run: they start, or wait for a node."""
        return [actor for actor in self.actors if not actor.node]

    def depth(self, actor: _Actor) -> int:
        """Return how many units an actor may hold: towards the end one, for a slow one earlier, so no unit waits."""
        slowness = max(1.0, actor.unit_s / self.unit_s) if self.unit_s else 1.0
        return IN_FLIGHT if len(self.queue) > len(self.actors) * slowness else 1

    def note_time(self, actor: _Actor, seconds: float) -> None:
        """Note how long a unit took."""
        actor.unit_s = seconds
        self.unit_s += (seconds - self.unit_s) * (WEIGHT_OF_LAST if self.unit_s else 1.0)


class Dispatcher:
    """Makes the units of all branches; each branch's actors live from its first unit to its last."""

    def __init__(
        self,
        job: Job,
        pools: Sequence[Pool],
        units: Sequence[Unit],
        indexes: Mapping[str, Sequence[int]],
        places: Mapping[str, ReadingPlaces],
        driver: DriverActor,
        token: str | None,
    ) -> None:
        """Start nothing yet.

        Args:
            pools: in the order in which they get resources.
            indexes: into `units`, by branch name.
            places: where these begin with another shard or row group, by branch name.
            token: a path in the output that every node must see; None: not looked for.
        """
        self._job = job
        self._job_reference = ray.put(job)
        self._units = units
        self._branches = [
            _Branch(
                pool,
                UnitQueue(indexes[pool.branch.name], places.get(pool.branch.name)),
                len(indexes[pool.branch.name]),
            )
            for pool in pools
        ]
        self._driver = driver
        self._token = token
        self._timeout_s = job.recipe.quality.unit_timeout_s
        self._looked = 0.0
        self._grows = False  # an autoscaler adds nodes for actors that wait
        self._idle_since = time.monotonic()  # when an actor was last ready
        self._stall_said = False

    def outcomes(self) -> Generator[UnitRecord | Failure, None, None]:
        """Yield each record or failure as soon as it is known. When closed, all actors are ended.

        Raises:
            JobError: a branch cannot load.
            RunError: the workers of a branch keep dying, or fail outside of a unit.
        """
        try:
            self._add_actors()
            while any(branch.actors or branch.queue for branch in self._branches):
                found: list[UnitRecord | Failure] = []
                stopping: JobError | RunError | None = None
                try:
                    overdue = self._overdue()
                    answering = self._answering()
                    for actor in answering:
                        found.extend(self._hear(actor))
                    for actor in overdue - {*answering}:
                        found.extend(self._bury(actor, None))
                    self._add_actors()
                    self._say_if_stalled()
                except (JobError, RunError) as error:
                    stopping = error
                yield from found  # also where the run stops: these units are made
                if stopping is not None:
                    raise stopping
        finally:
            if not is_lost():  # a lost Ray never answers
                for branch in self._branches:
                    for actor in list(branch.actors):
                        self._end(actor)

    def _answering(self) -> list[_Actor]:
        """Wait until an actor has an answer, or it is time to look at the nodes; return all that have one."""
        first = {actor.calls[0][0]: actor for branch in self._branches for actor in branch.actors if actor.calls}
        if not first:
            time.sleep(LOOK_EVERY_S / 10)  # no node is there to start one on
            return []
        ready, _ = _ray.wait(list(first), timeout=self._patience_s())
        if ready:
            ready, _ = _ray.wait(list(first), num_returns=len(first), timeout=0)
        return [first[reference] for reference in ready]

    def _say_if_stalled(self) -> None:
        """Warn once where no actor starts: other jobs hold the cluster, or it lost the nodes that the branches need."""
        actors = [actor for branch in self._branches for actor in branch.actors]
        if any(actor.loaded for actor in actors):
            self._idle_since = time.monotonic()
        elif not self._stall_said and time.monotonic() - self._idle_since > STALLED_AFTER_S:
            self._stall_said = True
            names = listed(branch.name for branch in self._branches if branch.queue)
            _log.warning(
                "no worker of %s was ready for %g s: is the cluster held by another job, or is it slow to start?",
                names,
                STALLED_AFTER_S,
            )

    def _running(self) -> list[_Actor]:
        """Return the actors that run a unit."""
        return [actor for branch in self._branches for actor in branch.actors if actor.loaded and actor.calls]

    def _overdue(self) -> set[_Actor]:
        """Return the actors whose unit runs for longer than the recipe allows."""
        if self._timeout_s is None:
            return set()
        began = time.monotonic() - self._timeout_s
        return {actor for actor in self._running() if actor.since < began}

    def _patience_s(self) -> float:
        """Return how long to wait for an answer before a look at the clock or at the nodes."""
        if self._timeout_s is None:
            return LOOK_EVERY_S
        first = min((actor.since for actor in self._running()), default=time.monotonic())
        return min(LOOK_EVERY_S, max(0.0, first + self._timeout_s - time.monotonic()) + 0.01)

    def _hear(self, actor: _Actor) -> Iterator[UnitRecord | Failure]:
        """Take an actor's answer, send it what comes next, and yield what its unit ended with."""
        if actor not in actor.branch.actors:  # ended since: it had loaded, and no unit was left
            return
        reference, index = actor.calls.popleft()
        try:
            answer = _ray.get(reference)
        except _LOST as error:
            actor.calls.appendleft((reference, index))
            yield from self._bury(actor, error)
            return
        except ray.exceptions.RayError as error:
            raise RunError(_cannot_go_on(actor.branch, error)) from error
        if isinstance(answer, JobError | RunError):
            raise answer
        if not actor.node:  # known before it loads: a worker that dies later cannot say it
            actor.node = answer
            actor.calls.append((actor.handle.load.remote(), None))
            return
        if index is None:
            actor.loaded, actor.loading_deaths = True, 0
        else:
            actor.branch.queue.finish(index)
            actor.branch.note_time(actor, time.monotonic() - actor.since)
            yield answer
        actor.since = time.monotonic()
        self._feed(actor)

    def _feed(self, actor: _Actor) -> None:
        """Send units to an actor; end it where none is left, with those of its branch that still load."""
        branch, queue = actor.branch, actor.branch.queue
        while queue and len(actor.calls) < branch.depth(actor) and not self._is_apart(actor):
            index = queue.take(actor)
            actor.calls.append((actor.handle.make.remote(self._units[index]), index))
        if not queue:
            for other in list(branch.actors):
                if not other.calls or not other.loaded:
                    self._end(other)

    def _is_apart(self, actor: _Actor) -> bool:
        """Whether the next unit must not join those in flight: one of them may have killed a worker before."""
        queue = actor.branch.queue
        suspects = [queue.is_suspect(index) for _, index in actor.calls if index is not None]
        return bool(suspects) and (any(suspects) or queue.is_suspect(queue.peek(actor)))

    def _bury(self, actor: _Actor, error: Exception | None) -> Iterator[Failure]:
        """Put the units of a dead actor back; yield the failure of the one that it ran, where that is its last try.

        Args:
            error: that it died of; None: it is overdue, and ended here.
        """
        branch = actor.branch
        self._end(actor)
        branch.deaths += 1
        excess = branch.deaths > DEATHS * branch.units + SPARE_DEATHS
        if error is not None and (excess or getattr(error, "actor_init_failed", False)):
            raise RunError(_cannot_go_on(branch, error)) from error
        if not actor.loaded:
            self._count_loading_death(actor)
            return
        indexes = [index for _, index in actor.calls if index is not None]
        for index in reversed(indexes[1:]):
            branch.queue.put_back(index)
        for index in indexes[:1]:
            reason = DIED if error is not None else OVERDUE.format(limit=self._timeout_s)
            deaths = branch.queue.add_death(index, reason)
            if len(deaths) < DEATHS:
                branch.queue.put_back(index)
            else:
                branch.queue.finish(index)
                yield self._record_failure(self._units[index], deaths)

    def _count_loading_death(self, actor: _Actor) -> None:
        deaths = actor.loading_deaths + 1
        if deaths >= DEATHS:
            raise JobError(
                f"branch {actor.branch.name!r}: a worker died {deaths} times while it loaded the models, on node "
                f"{actor.node or 'of unknown name'}: too little memory, or a fault in native code; "
                f"lower resources.{actor.branch.name}.actors or look into Ray's logs there"
            )
        actor.branch.loading_deaths.append(deaths)

    def _record_failure(self, unit: Unit, deaths: Sequence[str]) -> Failure:
        """Write and return the failure of a unit that is not tried again."""
        counts = {reason: deaths.count(reason) for reason in dict.fromkeys(deaths)}
        error = "; ".join(reason.format(times=counted(count, "time")) for reason, count in counts.items())
        return write_failure(self._job.open_store(), unit, len(deaths), error)

    def _add_actors(self) -> None:
        """Start the actors that are of use and that the cluster has, or its autoscaler may bring, capacity for."""
        wanted = {branch.name: branch.wanted() for branch in self._branches}
        if any(wanted.values()):
            pools = [branch.pool for branch in self._branches]
            running = {branch.name: len(branch.actors) for branch in self._branches}
            added = actors_to_add(pools, running, wanted, self._nodes())
            for branch in self._branches:
                ahead = AHEAD - len(branch.without_node()) if self._grows else 0
                for _ in range(min(wanted[branch.name], max(added[branch.name], ahead))):
                    self._start(branch)
        if self._grows:
            self._withdraw()

    def _withdraw(self) -> None:
        """End the actors that wait for a node and would find no unit, so that no node is started for them."""
        for branch in self._branches:
            for actor in branch.without_node()[len(branch.queue) :]:
                self._end(actor)

    def _nodes(self) -> Sequence[Any]:
        if not self._looked or time.monotonic() - self._looked > LOOK_EVERY_S:
            self._seen, self._grows = node_capacities(), may_grow()
            self._looked = time.monotonic()
        return self._seen

    def _start(self, branch: _Branch) -> None:
        options = actor_options(branch.pool)
        handle = (
            _ray.remote(UnitActor)
            .options(**options)
            .remote(self._job_reference, branch.pool.branch, self._driver, self._token)
        )
        deaths = branch.loading_deaths.pop() if branch.loading_deaths else 0
        branch.actors[_Actor(branch, handle, deque([(handle.host.remote(), None)]), deaths)] = None
        add(WORKERS, len(branch.actors), {"branch": branch.name})

    def _end(self, actor: _Actor) -> None:
        actor.branch.actors.pop(actor, None)
        add(WORKERS, len(actor.branch.actors), {"branch": actor.branch.name})
        actor.branch.queue.release(actor)
        _ray.kill(actor.handle)


def actor_options(pool: Pool) -> dict[str, Any]:
    """Return the options of a pool's actors. Ray restarts none and repeats no call: deaths are counted here."""
    spread = "DEFAULT" if pool.gpus > 0 else "SPREAD"  # shares of a GPU are packed
    return {
        "num_cpus": pool.cpus,
        "num_gpus": pool.gpus,
        "max_restarts": 0,
        "max_task_retries": 0,
        "scheduling_strategy": spread,
    }


def _cannot_go_on(branch: _Branch, error: BaseException) -> str:
    return f"the workers of {branch.name} cannot go on: {reason_of(error)}; {RESUMES}"


def reason_of(error: BaseException) -> str:
    """Return the last line of the innermost cause of a Ray error that has a text."""
    cause = getattr(error, "cause", None) or error.__cause__
    if isinstance(cause, BaseException) and str(cause).strip():
        return reason_of(cause)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else 'no details'}"
