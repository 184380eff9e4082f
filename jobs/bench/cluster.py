"""How busy actors are kept on a simulated cluster: several Ray nodes on this machine, an operator that only waits.

python -m jobs.bench.cluster [--actors N] [--nodes N] [--batch-s S [S ...]] [--images N] [--units N] [--rows N]
    [--patience-s S] [--json]
"""

import argparse
import contextlib
import json
import logging
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
from ray.cluster_utils import Cluster

from jobs.bench.machine import commit, machine
from jobs.bench.waiting import NAME, hold_file, make_known, waiting_job, worker_logs
from pipeline.cluster.engine import execute
from pipeline.cluster.ray_internals import loopback
from pipeline.errors import PalimpsestError
from pipeline.plan import Plan
from pipeline.planning.planner import make_plan
from pipeline.publishing.prepare import prepare
from pipeline.shards.images.codecs import encode
from pipeline.shards.output.store import open_store
from schemas.manifest import UnitRecord
from schemas.recipe import Recipe

ROWS_PER_UNIT = 256
MICRO_BATCH = 1
"""Images a call: the two cores of a small machine decode and encode for all actors, at 0.3 ms an image."""
SIDE_PX = 8
PATIENCE_S = 240.0
"""Seconds for all actors to load: each takes about two of a core, most of it imports."""
STARTING = 4
"""Worker processes of a node that start at a time, where a small machine stands for many nodes."""
ACTOR_CPUS = 2
"""Logical CPUs an actor: with two it decodes and encodes beside the calls, as beside a GPU."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the busy share of each batch time; 2 if a run failed."""
    parser = argparse.ArgumentParser(prog="python -m jobs.bench.cluster", description=__doc__)
    parser.add_argument("--actors", type=int, default=16, metavar="N")
    parser.add_argument("--nodes", type=int, default=4, metavar="N")
    parser.add_argument("--units", type=int, default=8, metavar="N", help="units an actor")
    parser.add_argument("--rows", type=int, default=ROWS_PER_UNIT, metavar="N", help="source rows a unit")
    parser.add_argument("--batch-s", type=float, nargs="+", default=[0.02], metavar="S", help="seconds a call takes")
    parser.add_argument("--images", type=int, default=MICRO_BATCH, metavar="N", help="images a call")
    parser.add_argument(
        "--patience-s", type=float, default=PATIENCE_S, metavar="S", help="how long all actors may take to load"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    try:
        found = [
            measure(
                options.actors, options.nodes, seconds, options.units, options.rows, options.images, options.patience_s
            )
            for seconds in options.batch_s
        ]
    except PalimpsestError as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 2
    for each in found:
        if options.json:
            print(json.dumps({**each, "machine": machine(), "commit": commit()}))
        else:
            print(" ".join(f"{name} {value:g}" for name, value in each.items()))
    return 0


def measure(
    actors: int,
    nodes: int,
    batch_s: float,
    units: int,
    rows: int = ROWS_PER_UNIT,
    images: int = MICRO_BATCH,
    patience_s: float = PATIENCE_S,
) -> dict[str, float]:
    """Return how busy the actors of one branch were, with `units` units of `rows` rows each.

    No call begins until all actors have loaded; with that the clock starts. `busy` is the time inside calls over that
    between the start and each actor's last call; `busy_to_the_end` over that between the start and the end of the run,
    tails included. `load_s` is how long it took until all had loaded.

    Raises:
        PalimpsestError: not all actors loaded in `patience_s` seconds.
    """
    cpus = [-(-actors // nodes) * ACTOR_CPUS] * nodes
    with tempfile.TemporaryDirectory() as scratch, patient(patience_s), simulated_cluster(cpus):
        folder = Path(scratch)
        plan = waiting_plan(folder, {"waiting": (batch_s, actors, 0.0)}, actors * units, rows, ACTOR_CPUS, images)
        hold_file(folder / "log").touch()
        started: list[float] = []
        threading.Thread(target=_release, args=(folder / "log", actors, patience_s, started), daemon=True).start()
        began = time.time()
        made = run(plan)
        ended = time.time()
        logs = worker_logs(folder / "log")
    if len(made) != len(plan.units) or len(logs) != actors or not started:
        raise PalimpsestError(f"{len(made)} of {len(plan.units)} units by {len(logs)} of {actors} actors")
    inside = sum(end - begin for log in logs for begin, end in log.calls)
    return {
        "actors": actors,
        "batch_s": batch_s,
        "images": images,
        "units": len(made),
        "busy": round(inside / sum(log.calls[-1][1] - started[0] for log in logs), 4),
        "busy_to_the_end": round(inside / (actors * (max(log.calls[-1][1] for log in logs) - started[0])), 4),
        "load_s": round(started[0] - began, 1),
        "seconds": round(ended - started[0], 1),
    }


def _release(log: Path, actors: int, patience_s: float, started: list[float]) -> None:
    """Let calls begin once all actors have loaded, and put that moment into `started`; after a while begin without."""
    deadline = time.time() + patience_s
    while (loaded := len(worker_logs(log))) < actors and time.time() < deadline:
        time.sleep(0.1)
    if loaded == actors:
        started.append(time.time())
    hold_file(log).unlink()


@contextlib.contextmanager
def patient(seconds: float) -> Iterator[None]:
    """Let Ray's nodes that start inside this context wait so long for their workers, and start a few at a time."""
    settings = {
        "RAY_worker_register_timeout_seconds": str(int(seconds)),
        "RAY_worker_maximum_startup_concurrency": str(STARTING),
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ |= settings
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


@contextlib.contextmanager
def simulated_cluster(cpus: Sequence[int], gpus: int = 0, alone: bool = True) -> Iterator[Cluster]:
    """Start a head without CPUs and a node for each number of logical CPUs; connect to it.

    Args:
        gpus: logical GPUs of each node.
        alone: listen on 127.0.0.1, where no `ray start` can join.
    """
    with loopback() if alone else contextlib.nullcontext():
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        try:
            for count in cpus:
                cluster.add_node(num_cpus=count, num_gpus=gpus)
            ray.init(address=cluster.address, logging_level=logging.ERROR, log_to_driver=False)
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()


def waiting_plan(
    folder: Path,
    branches: dict[str, tuple[float, int | None, float]],
    units: int,
    rows: int,
    cpus: int = 1,
    images: int = MICRO_BATCH,
) -> Plan:
    """Return a plan of `units` units a branch, and write its one shard.

    Args:
        branches: seconds a call, actors (None: as many as fit) and GPUs an actor, by name.
        rows: source rows a unit.
        cpus: logical CPUs an actor.
        images: that a call takes.
    """
    make_known()
    (folder / "log").mkdir()
    image = encode(np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8), "png")
    table = pa.table({"image": [image] * (units * rows), "label": pa.array([0] * (units * rows), pa.int64())})
    pq.write_table(table, folder / "shard.parquet", row_group_size=rows)
    recipe: dict[str, Any] = {
        "version": 1,
        "seed": 7,
        "input": {"uri": str(folder / "shard.parquet")},
        "output": {"uri": str(folder / "out"), "rows_per_unit": rows},
        "watermark": "none",
        "numerics": {"micro_batch": images},
        "branches": [
            {"name": name, "copies": 1, "operators": [{NAME: {"batch_s": seconds, "log": str(folder / "log")}}]}
            for name, (seconds, _, _) in branches.items()
        ],
        "resources": {
            name: {"actors": actors, "gpus": gpus, "cpus": cpus} for name, (_, actors, gpus) in branches.items()
        },
    }
    return make_plan(Recipe.model_validate(recipe), str(folder))


def run(plan: Plan) -> list[UnitRecord]:
    """Make the units of a plan on the Ray that this process is connected to."""
    prepare(plan, open_store(plan.output))
    outcomes = execute(waiting_job(plan), plan.branches, plan.units)
    return [outcome for outcome in outcomes if isinstance(outcome, UnitRecord)]


if __name__ == "__main__":
    sys.exit(main())
