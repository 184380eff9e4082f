"""Kills at random moments of whole runs on Ray: `python -m tests.chaos.kills [--seed N] [--kills 50]`.

`--two-drivers 50` does that alone of all kinds, without Ray and some at a time: a takeover waits 20 s for a heartbeat.

The command line alone is used: `palimpsest run` is started, something of it is killed or stopped, and the same command
goes on, until a run ends by itself. Then `verify` must pass, and `data/` hold the files that an undisturbed run makes,
byte for byte: nothing lost, nothing twice. And so on with an empty output, until there were as many kills as asked for.
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.cluster.processes import descendants, kill_all, unit_actors
from tests.fixtures.data_sets import contents, findings, write_input, write_recipe

ROOT = Path(__file__).resolve().parent.parent.parent
DEADLINE_S = 180.0
ROWS, ROWS_PER_UNIT, SHARDS = 160, 2, 2
UNITS = SHARDS * ROWS // ROWS_PER_UNIT
INLINE = ("--executor", "inline")
START_S = 8.0
"""Seconds in which a run starts, about."""
SHARED = 0.75
LANES = 8
"""Data sets in which two drivers meet at a time: most of it is waiting for a heartbeat that does not come."""
ANOTHER_MACHINE = ("unshare", "--uts", "sh", "-c", 'hostname another && exec "$@"', "sh")
"""Prefix of a command that then runs under another host name, so that a lease tells its process by its heartbeat."""


class Driver:
    """`palimpsest run` as a process of its own."""

    def __init__(
        self, recipe: Path, out: Path, *options: str, prefix: Sequence[str] = (), more: Mapping[str, str] | None = None
    ) -> None:
        self.out = out
        self.log = recipe.parent / f"driver-{time.monotonic_ns()}.log"
        command = [*prefix, sys.executable, "-m", "jobs", "run", str(recipe), "--output", str(out), *options]
        settings = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, **settings, **(more or {})},
            )
        self.seen: set[int] = {self.process.pid}

    def made(self) -> int:
        """Return how many files there are in `data/`."""
        return len(list((self.out / "data").glob("*.parquet")))

    def wait_for(self, files: int) -> bool:
        """Wait until there are so many files; return False if the run ended before."""
        deadline = time.monotonic() + DEADLINE_S
        while self.made() < files:
            if self.process.poll() is not None or time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return self.process.poll() is None

    def below(self, title: str = "") -> list[int]:
        """Return the processes below the driver whose command line holds `title`."""
        found = descendants(self.process.pid)
        self.seen |= set(found)
        return [pid for pid, line in found.items() if title in line]

    def ended(self) -> int:
        """Wait for the end of the driver, and kill it after a long while; return its exit status."""
        try:
            return self.process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.kill_all()
            return self.process.wait()

    def lines(self) -> list[str]:
        """Return what the command said of its end."""
        return [line for line in self.log.read_text().splitlines() if line.startswith("palimpsest: ")]

    def kill_all(self) -> None:
        self.below()
        kill_all([*(self.seen - {self.process.pid}), self.process.pid])
        self.process.wait()


class Kills:
    """One data set after another, each killed some times. `findings` are lines for everything that is wrong.

    Args:
        shared: of runs that may join a cluster of several nodes, this share does; the others have a Ray of their own.
        inline: run without Ray, for kinds that need none.
    """

    def __init__(
        self,
        seed: int,
        folder: Path,
        say: Callable[[str], None] = print,
        shared: float = 0.0,
        inline: bool = False,
    ) -> None:
        self.shared = shared
        self.inline = inline
        self.cluster: Any = None
        self.joined = False
        self.random = random.Random(seed)
        self.folder = folder
        self.say = say
        self.findings: list[str] = []
        self.started: list[Driver] = []
        self.out = folder / "out"
        folder.mkdir(exist_ok=True)
        write_input(folder / "data", shards=SHARDS, rows=ROWS)
        self.recipe = write_recipe(
            folder, output={"rows_per_unit": ROWS_PER_UNIT, "encoding": "jpeg"}, resources={"flipped": {"actors": 2}}
        )
        undisturbed = Driver(self.recipe, folder / "undisturbed", *INLINE)
        assert undisturbed.ended() == 0, undisturbed.log.read_text()
        self.expected = contents(folder / "undisturbed", "data")
        assert len(self.expected) == UNITS

    def run(self, kinds: Sequence[str]) -> None:
        """Do one thing of each kind to the runs of one data set after another, and see that each ends well."""
        left = 0
        for number, kind in enumerate(kinds, 1):
            if self.files() == UNITS:
                self.complete()
            before, began = self.files(), time.monotonic()
            said = KINDS[kind](self)
            took = time.monotonic() - began
            self.say(f"{number:3} {kind:12} {before:4} -> {self.files():4} {took:5.0f} s  {said}")
            left = left - 1 if left else self.random.randint(1, 3)
            if left == 0 or number == len(kinds):
                self.complete()
                left = 0

    def files(self) -> int:
        """Return how many files there are in `data/`."""
        return len(list((self.out / "data").glob("*.parquet")))

    def complete(self) -> None:
        """Run to the end; compare with the undisturbed data set, and remove the output."""
        driver = self.start(*(INLINE if self.random.random() < 0.5 else self.where()))
        status = driver.ended()
        if status != 0:
            self.findings.append(f"the last run ended with {status}: {driver.log.read_text()[-2_000:]}")
        self.findings += [f"verify: {each}" for each in findings(self.out)]
        found = contents(self.out, "data")
        lost, more = sorted(self.expected.keys() - found.keys()), sorted(found.keys() - self.expected.keys())
        other = [name for name in self.expected.keys() & found.keys() if self.expected[name] != found[name]]
        for what, names in {"lost": lost, "more than asked for": more, "of other bytes": other}.items():
            if names:
                self.findings.append(f"{len(names)} files {what}: {names[:5]}")
        self.say(f"    complete: {len(found)} files, {len(lost)} lost, {len(more)} more, {len(other)} of other bytes")
        self.end_all()
        shutil.rmtree(self.out)

    def end_all(self) -> None:
        """End what is left of the runs that were started."""
        for each in self.started:
            each.kill_all()
        self.started.clear()

    def close(self) -> None:
        """End what is left of the runs, and the cluster."""
        self.end_all()
        if self.cluster is not None:
            self.cluster.shutdown()

    def where(self) -> tuple[str, ...]:
        """Return the options that say where the next run finds its workers."""
        self.joined = not self.inline and self.random.random() < self.shared
        if self.joined and self.cluster is None:
            self.cluster = start_cluster()
        return INLINE if self.inline else ("--address", self.cluster.address) if self.joined else ()

    def actors(self, driver: Driver) -> list[int]:
        """Return the processes of a run's actors; on a cluster, of those of all runs."""
        return unit_actors() if self.joined else driver.below("UnitActor")

    def start(self, *options: str, prefix: Sequence[str] = (), more: Mapping[str, str] | None = None) -> Driver:
        self.started.append(Driver(self.recipe, self.out, *options, prefix=prefix, more=more))
        return self.started[-1]

    def started_and_at_work(self, *options: str) -> Driver:
        """Return a driver at a moment of chance: one of five while it starts, else once it has made some files."""
        driver = self.start(*options)
        if self.random.random() < 0.2:
            with contextlib.suppress(subprocess.TimeoutExpired):
                driver.process.wait(self.random.uniform(0.5, START_S))
        else:
            made = driver.made()
            driver.wait_for(made + 1 + int(self.random.random() * max(1, (UNITS - made) * 2 // 3)))
            time.sleep(self.random.uniform(0, 0.05))
        driver.below()
        return driver

    def kill_one(self, title: str) -> str:
        """Kill one process below a driver with a Ray of its own, and let the run end as it will."""
        driver = self.started_and_at_work()
        return self.kill_any(driver, title, lambda: driver.below(title))

    def kill_actor(self) -> str:
        driver = self.started_and_at_work(*self.where())
        return self.kill_any(driver, "an actor", lambda: self.actors(driver))

    def kill_any(self, driver: Driver, title: str, those: Callable[[], list[int]]) -> str:
        while not (found := those()) and driver.process.poll() is None:
            time.sleep(0.05)
        kill_all([self.random.choice(found)] if found else [])
        status, lines = driver.ended(), driver.lines()
        if status not in (0, 1) or (status == 1 and len(lines) != 1):
            self.findings.append(f"without {title} the run ended with {status}: {driver.log.read_text()[-2_000:]}")
        return f"{'killed' if found else 'was done before'}, exit {status}"

    def kill_driver(self) -> str:
        """Kill the driver alone; what is below it goes on for a while, beside the next run."""
        driver = self.started_and_at_work(*self.where())
        kill_all([driver.process.pid])
        return f"exit {driver.process.wait()}"

    def kill_everything(self) -> str:
        driver = self.started_and_at_work()
        driver.kill_all()
        return f"exit {driver.process.returncode}"

    def terminate(self) -> str:
        """SIGTERM, and after a notice of 5 seconds SIGKILL for all, as clusters do."""
        driver = self.started_and_at_work(*self.where())
        driver.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            return f"exit {driver.process.wait(5)} within the notice"
        driver.kill_all()
        return "killed after the notice"

    def run_without_memory(self) -> str:
        """Have Ray kill every worker that starts, as it does where a machine's memory is nearly full."""
        driver = self.start(more={"RAY_memory_usage_threshold": "0.001", "RAY_memory_monitor_refresh_ms": "50"})
        status, said = driver.ended(), driver.log.read_text()
        if status not in (1, 2) or "memory" not in said:
            self.findings.append(f"without memory the run ended with {status}: {said[-2_000:]}")
        return f"exit {status}"

    def kill_node(self) -> str:
        """Kill one of two nodes of the cluster, which gets another one; the run goes on."""
        if self.cluster is None:
            self.cluster = start_cluster()
        driver = self.started_and_at_work("--address", self.cluster.address)
        self.cluster.remove_node(self.random.choice(list(self.cluster.worker_nodes)), allow_graceful=False)
        status = driver.ended()
        if status != 0:
            self.findings.append(f"without a node the run ended with {status}: {driver.log.read_text()[-2_000:]}")
        self.cluster.add_node(num_cpus=2)
        return f"exit {status}"

    def stop_one_of_two(self) -> str:
        """Stop a driver, alone or with its actors; another one takes over; the first wakes."""
        where = self.where()
        first = self.started_and_at_work(*where)
        stopped = [first.process.pid, *(self.actors(first) if self.random.random() < 0.5 else [])]
        signal_all(stopped, signal.SIGSTOP)
        second = self.start(*where, prefix=ANOTHER_MACHINE)
        made = second.made()
        second.wait_for(made + self.random.randint(0, max(1, UNITS - made)))
        time.sleep(self.random.uniform(0, 0.5))
        signal_all(stopped, signal.SIGCONT)
        return f"{len(stopped)} stopped, exits {first.ended()} and {second.ended()}"


def signal_all(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def start_cluster() -> Any:
    """Return a `ray.cluster_utils.Cluster` of a head and two nodes on this machine."""
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    for _ in range(2):
        nodes.add_node(num_cpus=2)
    return nodes


KINDS: dict[str, Callable[[Kills], str]] = {
    "actor": Kills.kill_actor,
    "raylet": lambda kills: kills.kill_one("raylet/raylet"),
    "gcs": lambda kills: kills.kill_one("gcs/gcs_server"),
    "driver": Kills.kill_driver,
    "everything": Kills.kill_everything,
    "terminate": Kills.terminate,
    "memory": Kills.run_without_memory,
    "node": Kills.kill_node,
    "two drivers": Kills.stop_one_of_two,
}


def two_drivers(seed: int, count: int, folder: Path) -> list[str]:
    """Stop one of two drivers `count` times, in as many data sets at once as wait well; return the findings."""
    lanes = [Kills(seed + lane, folder / str(lane), print_line, inline=True) for lane in range(min(LANES, count))]
    with ThreadPoolExecutor(len(lanes)) as pool:
        counts = [len(range(lane, count, len(lanes))) for lane in range(len(lanes))]
        try:
            list(pool.map(lambda lane, rounds: lane.run(["two drivers"] * rounds), lanes, counts))
        finally:
            for lane in lanes:
                lane.close()
    return [finding for lane in lanes for finding in lane.findings]


def kill(seed: int, kinds: Sequence[str], folder: Path) -> list[str]:
    """Do one thing of each kind, one after another; return the findings."""
    kills = Kills(seed, folder, print_line, shared=SHARED)
    try:
        kills.run(kinds)
    finally:
        kills.close()
    return kills.findings


def print_line(line: str) -> None:
    print(line, flush=True)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    options.add_argument("--kills", type=int, default=50)
    options.add_argument("--kind", action="append", choices=list(KINDS), help="these alone; all, if not given")
    options.add_argument("--two-drivers", type=int, default=0, metavar="N", help="that often, and no kills")
    given = options.parse_args()
    print_line(f"seed {given.seed}")
    kinds = given.kind or list(KINDS)
    chosen = [kinds[number % len(kinds)] for number in range(given.kills)]
    random.Random(given.seed).shuffle(chosen)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="palimpsest-kills-") as scratch:
        folder = Path(scratch)
        count, what = (given.two_drivers, "stops") if given.two_drivers else (given.kills, "kills")
        found = two_drivers(given.seed, count, folder) if given.two_drivers else kill(given.seed, chosen, folder)
    print(*found, sep="\n")
    print(f"{count} {what}, {len(found)} findings, {time.monotonic() - began:.0f} s")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
