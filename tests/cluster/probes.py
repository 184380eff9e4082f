"""An operator that misbehaves on purpose, and a job that takes it along into Ray's workers."""

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, Literal

from pipeline.contracts import Applied, Assets, Draws, ImageBatch, Operator, Parameters
from pipeline.errors import ModelError
from pipeline.execution.job import Job
from pipeline.noise import Noise
from pipeline.plan import Plan
from pipeline.registry import OPERATORS

REGISTRATION = ("probe", "tests.cluster.probes:Probe")


class ProbeParams(Parameters):
    """What goes wrong, and for images of which class."""

    what: Literal["sleep", "no_torch", "hang", "kill", "fail", "unloadable", "crash_loading", "kill_loading"]
    label: int = 1
    seconds: float = 0.0


class Probe(Operator):
    """Pass images on, unless one of them has the class that brings the accident."""

    name = "probe"
    version = 1
    source = "this test"
    Params = ProbeParams
    uses_torch = False

    def load(self, device: str, assets: Assets) -> None:
        if self.params.what == "unloadable":
            raise ModelError("models/probe.safetensors: no such file; give its path in the recipe")
        if self.params.what == "kill_loading":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.params.what == "crash_loading":
            raise RuntimeError("the weights have another shape")

    def draw(self, batch: ImageBatch) -> Draws:
        return Draws({})

    def apply(self, batch: ImageBatch, draws: Draws, noise: Noise) -> Applied:
        if self.params.what == "no_torch" and "torch" in sys.modules:
            raise RuntimeError("torch was imported")
        here = self.params.label in batch.labels.tolist()
        if self.params.what != "hang" or here:
            time.sleep(self.params.seconds)
        if here:
            if self.params.what == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.params.what == "fail":
                raise MemoryError("no memory for the probe")
        assert batch.images is not None
        return Applied(batch.images)


class ProbeJob(Job):
    """A job that registers the probe in every process it is unpickled in."""

    def __reduce__(self) -> tuple[Callable[..., "ProbeJob"], tuple[Any, ...]]:
        return _restored, (self.recipe, self.output, self.layout, self.classes, self.key_id)


def probe_job(plan: Plan) -> Job:
    return ProbeJob.of(plan)


def _restored(*fields: Any) -> ProbeJob:
    OPERATORS[REGISTRATION[0]] = REGISTRATION[1]
    return ProbeJob(*fields)
