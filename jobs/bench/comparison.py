"""Run contestants in turn, each in a process of its own, for several rounds; medians, spreads and peak memory."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from jobs.bench.contestants.task import Task
from jobs.bench.process_memory import MemoryWatch, Peak, tree
from pipeline.errors import JobError

CONTESTANTS = {
    "palimpsest": "jobs.bench.contestants.palimpsest_run",
    "bare_loop": "jobs.bench.contestants.bare_loop",
    "ray_data": "jobs.bench.contestants.ray_data",
    "one_at_a_time": "jobs.bench.contestants.adain_loop",
    "float32": "jobs.bench.contestants.palimpsest_run",
}
"""The contestants and their modules; `float32` is the product once more, in the type that all others compute in."""
TASK_OVERRIDES: dict[str, dict[str, Any]] = {"float32": {"dtype": "float32"}}
"""Fields of the task that differ for a contestant."""
DEFAULT_CONTESTANTS = ("palimpsest", "bare_loop", "ray_data")
LIMIT_S = 3_600  # of one run
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Run:
    """One run of one contestant: rows, seconds, peak memory, and where the time went."""

    rows: int
    seconds: float
    memory_mib: dict[str, float]
    spent: dict[str, float] = field(default_factory=dict)  # of the product, s; units and operators summed over actors

    @property
    def images_per_s(self) -> float:
        return self.rows / self.seconds


def run_contestants(task: Task, rounds: int, names: Sequence[str] = DEFAULT_CONTESTANTS) -> dict[str, list[Run]]:
    """Run the contestants in turn, `rounds` times; print each result on stderr.

    Raises:
        JobError: one of them failed, or they did not make the same number of images.
    """
    runs: dict[str, list[Run]] = {name: [] for name in names}
    with limited_cores(task.workers):
        for round_ in range(1, rounds + 1):
            for name in names:
                load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
                run = run_contestant(task, name)
                runs[name].append(run)
                print(
                    f"round {round_} of {rounds}: {name:<13} {run.images_per_s:8.1f} images/s "
                    f"({run.rows} in {run.seconds:.1f} s, load before {load:.1f})",
                    file=sys.stderr,
                )
    counts = {name: sorted({run.rows for run in found}) for name, found in runs.items()}
    if len({tuple(found) for found in counts.values()}) > 1:
        raise JobError(f"bench: the contestants did not make the same number of images: {counts}")
    return runs


def run_contestant(task: Task, name: str) -> Run:
    """Run one contestant in a process of its own; its output is removed.

    Raises:
        JobError: it failed, or took more than an hour; with the last line it wrote.
    """
    with tempfile.TemporaryDirectory(prefix="palimpsest-bench-") as folder:
        task = replace(task, output=str(Path(folder, "out")), **TASK_OVERRIDES.get(name, {}))
        line, peak = output_of([sys.executable, "-m", CONTESTANTS[name], task.to_json()], name)
    return Run(**json.loads(line), memory_mib=peak.as_json())


def median_speeds(tasks: Mapping[str, tuple[str, Any]], rounds: int) -> dict[str, float]:
    """Return images per second of each contestant: medians of `rounds` taken in turn; each is printed on stderr.

    tasks: by name, the module of the contestant and its task, a dataclass with `output` and `to_json`.
    """
    found: dict[str, list[float]] = {name: [] for name in tasks}
    for round_ in range(1, rounds + 1):
        for name, (module, task) in tasks.items():
            with tempfile.TemporaryDirectory(prefix="palimpsest-bench-") as folder:
                placed = replace(task, output=str(Path(folder, "out")))
                found[name].append(speed_of(module, placed))
            print(f"round {round_} of {rounds}: {name:<12}{found[name][-1]:8.2f} images/s", file=sys.stderr)
    return {name: float(f"{median(values):.4g}") for name, values in found.items()}


def speed_of(module: str, task: Any) -> float:
    """Images a second of one contestant in a process of its own."""
    line, _ = output_of([sys.executable, "-m", module, task.to_json()], module)
    result = json.loads(line)
    return float(result["rows"] / result["seconds"])


def output_of(command: list[str], name: str) -> tuple[str, Peak]:
    """Return the last line a command writes on stdout, and the peak memory of its process tree. Raises JobError."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        with MemoryWatch(process.pid) as watch:
            out, errors = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        raise JobError(f"bench: {name} took more than {LIMIT_S} s") from None
    finally:
        if process.poll() is None:
            for pid in tree(process.pid):  # its workers too; Ray gives some of them groups of their own
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()
    lines = out.splitlines()
    if process.returncode != 0 or not lines:
        last = next((line for line in reversed(errors.splitlines()) if line.strip()), "nothing on stderr")
        raise JobError(f"bench: {name} failed ({process.returncode}): {last}")
    return lines[-1], watch.peak


@contextlib.contextmanager
def limited_cores(count: int) -> Iterator[None]:
    """Limit this process, and so all contestants, to `count` cores, where the system can."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def figures(runs: dict[str, list[Run]]) -> dict[str, Any]:
    """Return medians, ratios, spreads and memory of all runs, ready for JSON."""
    speed = {name: median(run.images_per_s for run in found) for name, found in runs.items()}
    spread = {
        name: (max(run.images_per_s for run in found) - min(run.images_per_s for run in found)) / speed[name]
        for name, found in runs.items()
    }
    ours = runs["palimpsest"]
    return {
        "images_per_s": {name: round(value, 2) for name, value in speed.items()},
        "ratio": {name: round(speed["palimpsest"] / value, 3) for name, value in speed.items() if name != "palimpsest"},
        "spread": {name: round(value, 3) for name, value in spread.items()},  # (highest - lowest) / median
        "each_round": {name: [round(run.images_per_s, 2) for run in found] for name, found in runs.items()},
        "peak_memory_mib": {
            name: {key: max(run.memory_mib[key] for run in found) for key in found[0].memory_mib}
            for name, found in runs.items()
        },
        "palimpsest_s": {key: round(median(run.spent[key] for run in ours), 3) for key in ours[0].spent},
        "rows": ours[0].rows,
    }
