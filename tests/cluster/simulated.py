"""Scenarios on a simulated cluster, each in a process of its own: python -m tests.cluster.simulated NAME FOLDER.

Every scenario prints one JSON object: the units that ended as records and as failures, and what its test looks at.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ray

from jobs.bench.cluster import simulated_cluster, waiting_plan
from jobs.bench.waiting import WaitingJob, hold_file, make_known, slow_file, waiting_job, worker_logs
from pipeline.cluster.engine import execute
from pipeline.errors import JobError
from pipeline.execution.job import Job
from pipeline.plan import Plan
from pipeline.publishing.prepare import prepare
from pipeline.shards.output.store import open_store
from schemas.manifest import Failure, UnitRecord
from tests.cluster.autoscaling import autoscaling_cluster

Outcome = UnitRecord | Failure
ROWS = 4
"""Rows, and so calls, a unit."""


def outcomes_of(plan: Plan, job: Callable[[Plan], Job] = waiting_job) -> Iterator[Outcome]:
    prepare(plan, open_store(plan.output))
    return execute(job(plan), plan.branches, plan.units)


def summary(plan: Plan, outcomes: list[Outcome], **more: Any) -> dict[str, Any]:
    made = [outcome.unit for outcome in outcomes if isinstance(outcome, UnitRecord)]
    failed = [outcome.error for outcome in outcomes if isinstance(outcome, Failure)]
    return {"whole": sorted(made) == sorted(unit.name for unit in plan.units), "failed": failed, **more}


def node_dies(folder: Path) -> dict[str, Any]:
    """A node with half of the actors is lost while all of them are in their first call."""
    with simulated_cluster([2, 2]) as cluster:
        plan = waiting_plan(folder, {"a": (0.1, None, 0.0)}, 16, ROWS)
        hold = hold_file(folder / "log")
        hold.touch()

        def lose_one() -> None:
            while len({log.node for log in worker_logs(folder / "log")}) < 2:
                time.sleep(0.05)
            cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
            hold.unlink()

        threading.Thread(target=lose_one, daemon=True).start()
        outcomes = list(outcomes_of(plan))
        return summary(plan, outcomes, nodes_left=len(cluster.worker_nodes))


def node_comes_and_goes(folder: Path) -> dict[str, Any]:
    """A node is added to a running cluster, works, and is removed again."""
    with simulated_cluster([1]) as cluster:
        plan = waiting_plan(folder, {"a": (0.25, None, 0.0)}, 40, ROWS)
        outcomes, added, gone = [], None, False
        for outcome in outcomes_of(plan):
            outcomes.append(outcome)
            if len(outcomes) == 2:
                added = cluster.add_node(num_cpus=2)
            busy = [log for log in worker_logs(folder / "log") if len(log.calls) > ROWS]
            if len(busy) == 3 and not gone:
                cluster.remove_node(added)
                gone = True
        return summary(plan, outcomes, workers=len(worker_logs(folder / "log")), gone=gone)


def slow_node(folder: Path) -> dict[str, Any]:
    """One node of two takes ten times as long for a call."""
    with simulated_cluster([2, 2]) as cluster:
        plan = waiting_plan(folder, {"a": (0.05, 4, 0.0)}, 80, ROWS)
        slow = next(iter(cluster.worker_nodes)).node_id
        slow_file(folder / "log", slow).touch()
        outcomes = list(outcomes_of(plan))
        logs = worker_logs(folder / "log")
        ends = sorted(log.calls[-1][1] for log in logs if log.node != slow)
        tails = [log.calls[-1][1] - ends[-1] for log in logs if log.node == slow]
        return summary(plan, outcomes, tail_s=max(tails), slow_unit_s=0.05 * 10 * ROWS, workers=len(logs))


def nodes_on_demand(folder: Path) -> dict[str, Any]:
    """No node is there at first. One branch wants both CPU nodes for a while, another the GPU node for longer."""
    types = {"cpu": {"resources": {"CPU": 1}, "max_workers": 2}, "gpu": {"resources": {"GPU": 1}, "max_workers": 1}}
    types["gpu"]["resources"] |= {"CPU": 1}
    with autoscaling_cluster(types):
        plan = waiting_plan(folder, {"a": (0.4, None, 0.0), "b": (1.0, 1, 0.5)}, 8, ROWS)
        before, outcomes, nodes = nodes_up(), [], []
        for outcome in outcomes_of(plan, FakeGpuJob.of):
            outcomes.append(outcome)
            nodes.append(nodes_up())
        last, deadline = nodes[-1], time.monotonic() + 60
        while nodes_up() and time.monotonic() < deadline:
            time.sleep(0.2)
        devices = sorted({log.devices for log in worker_logs(folder / "log")})
        return summary(plan, outcomes, before=before, most=max(nodes), last=last, after=nodes_up(), devices=devices)


def nodes_up() -> int:
    """Return how many nodes are up beside the head."""
    return sum(each["Alive"] and each["Resources"].get("CPU", 0) > 0 for each in ray.nodes())


def no_output_folder(folder: Path) -> dict[str, Any]:
    """A node sees another disk where the output folder is."""
    with simulated_cluster([], alone=False) as cluster:
        plan = waiting_plan(folder, {"a": (0.1, 1, 0.0)}, 4, ROWS)
        ray_start = f"{Path(sys.executable).parent / 'ray'} start --address={cluster.address} --num-cpus=2 --block"
        script = f"mount -t tmpfs none {plan.output} && exec {ray_start}"
        Path(plan.output).mkdir()
        node = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", script], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            while len([each for each in ray.nodes() if each["Alive"]]) < 2:
                assert node.poll() is None, "the node does not start"
                time.sleep(0.2)
            outcomes = list(outcomes_of(plan))
        except JobError as error:
            return {"error": str(error)}
        finally:
            node.terminate()
            node.wait(30)
        return summary(plan, outcomes)


def gpu_fractions(folder: Path) -> dict[str, Any]:
    """Three branches share one logical GPU by quarters, the first of them with units that take longest."""
    with simulated_cluster([8], gpus=1):
        branches = {"a": (1.5, 3, 0.25), "b": (0.1, 2, 0.25), "c": (0.1, 2, 0.25)}
        plan = waiting_plan(folder, branches, 6, ROWS)
        outcomes = list(outcomes_of(plan, FakeGpuJob.of))
        logs = worker_logs(folder / "log")
        ends = [(log.loaded, 1) for log in logs] + [(log.calls[-1][1], -1) for log in logs]
        at_once = most_at_once = 0
        for _, change in sorted(ends):
            at_once += change
            most_at_once = max(most_at_once, at_once)
        return summary(
            plan,
            outcomes,
            devices=sorted({log.devices for log in logs}),
            most_at_once=most_at_once,
            order=[outcome.unit.split("-")[0] for outcome in outcomes],
        )


class FakeGpuJob(WaitingJob):
    """A job whose workers find a stand-in for torch: a GPU is there, and nothing can be computed on it."""

    def __reduce__(self) -> tuple[Callable[..., "FakeGpuJob"], tuple[Any, ...]]:
        return _with_a_gpu, (self.recipe, self.output, self.layout, self.classes, self.key_id)


def _with_a_gpu(*fields: Any) -> FakeGpuJob:
    make_known()
    cuda = SimpleNamespace(is_available=lambda: True, get_device_name=lambda device: "none")
    sys.modules["torch"] = SimpleNamespace(cuda=cuda)  # type: ignore[assignment]
    return FakeGpuJob(*fields)


SCENARIOS = {
    scenario.__name__: scenario
    for scenario in (node_dies, node_comes_and_goes, slow_node, nodes_on_demand, no_output_folder, gpu_fractions)
}

if __name__ == "__main__":
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    print(json.dumps(SCENARIOS[sys.argv[1]](Path(sys.argv[2]))))
