"""An operator that waits like one on a GPU, without torch, and a job that takes it along into Ray's workers."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from pipeline.contracts import Applied, Assets, Draws, ImageBatch, Operator, Parameters
from pipeline.execution.job import Job
from pipeline.noise import Noise
from pipeline.plan import Plan
from pipeline.registry import OPERATORS

NAME = "waiting"
SLOWER = 10
"""How many times as long calls take on a slow node."""


class WaitingParams(Parameters):
    """How long a call takes, and the folder that notes when each began and ended."""

    batch_s: float
    log: str


class Waiting(Operator):
    """Pass images on after a while."""

    name = NAME
    version = 1
    source = "this bench"
    Params = WaitingParams
    uses_torch = False

    def load(self, device: str, assets: Assets) -> None:  # noqa: ARG002 - it has no model
        """Open the log of this worker."""
        node = ray.get_runtime_context().get_node_id()
        folder = Path(self.params.log)
        self._seconds = self.params.batch_s * (SLOWER if slow_file(folder, node).exists() else 1)
        self._held = hold_file(folder) if hold_file(folder).exists() else None
        self._log = (folder / f"{node}-{os.getpid()}.log").open("a", buffering=1)
        self._log.write(f"{self.params.batch_s} {time.time()} {os.environ.get('CUDA_VISIBLE_DEVICES', '')}\n")

    def draw(self, batch: ImageBatch) -> Draws:  # noqa: ARG002 - there is nothing to choose
        """Draw nothing."""
        return Draws({})

    def apply(self, batch: ImageBatch, draws: Draws, noise: Noise) -> Applied:  # noqa: ARG002 - nothing to do
        """Wait, and return the images of the batch."""
        while self._held is not None and self._held.exists():
            time.sleep(0.01)
        started = time.time()
        time.sleep(self._seconds)
        self._log.write(f"{started} {time.time()}\n")
        assert batch.images is not None
        return Applied(batch.images)


def slow_file(log: Path, node: str) -> Path:
    """Return the file whose presence makes a node slow."""
    return log / f"{node}.slow"


def hold_file(log: Path) -> Path:
    """Return the file which, while it is there, keeps workers that loaded meanwhile from beginning a call."""
    return log / "hold"


@dataclass(frozen=True)
class WorkerLog:
    """What one worker noted, in seconds since 1970: when it had loaded, and each call's beginning and end."""

    node: str
    batch_s: float
    loaded: float
    devices: str
    calls: tuple[tuple[float, float], ...]


def worker_logs(folder: Path) -> list[WorkerLog]:
    """Return what every worker noted; one that was killed while it wrote has its whole lines."""
    found = []
    for path in sorted(folder.glob("*.log")):
        if not (text := path.read_text()):  # just opened
            continue
        head, *lines = [line.split() for line in text.splitlines()]
        calls = tuple((float(line[0]), float(line[1])) for line in lines if len(line) == 2)
        found.append(WorkerLog(path.name.split("-")[0], float(head[0]), float(head[1]), "".join(head[2:]), calls))
    return found


class WaitingJob(Job):
    """A job that makes the operator known in every process it is unpickled in."""

    def __reduce__(self) -> tuple[Callable[..., "WaitingJob"], tuple[Any, ...]]:
        """Pickle it with the registration of the operator."""
        return _restored, (self.recipe, self.output, self.layout, self.classes, self.key_id)


def waiting_job(plan: Plan) -> Job:
    """Return the job of a plan that has the operator."""
    return WaitingJob.of(plan)


def make_known() -> None:
    """Let recipes of this process name the operator."""
    OPERATORS[NAME] = "jobs.bench.waiting:Waiting"


def _restored(*fields: Any) -> WaitingJob:
    make_known()
    return WaitingJob(*fields)
