"""A run in a process of its own, that tests wait for, disturb and kill."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.cluster.processes import descendants, kill_all
from tests.fixtures.commit_logs import unit_at

DEADLINE_S = 120
ROOT = Path(__file__).resolve().parent.parent.parent


class Run:
    """`python -m jobs run RECIPE` as a process of its own, with a Ray of its own below it."""

    def __init__(self, recipe: Path, *options: str) -> None:
        self.out = recipe.parent / "out"
        self.log = recipe.parent / f"run-{time.monotonic_ns()}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jobs", "run", str(recipe), *options],
                cwd=ROOT, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def units(self) -> set[str]:
        """Return the units that have a data file in the output."""
        return {unit_at(path) for path in (self.out / "data").glob("*.parquet")}

    def wait_until(self, happened: Callable[[], bool], every_s: float) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not happened():
            assert time.monotonic() < deadline and self.process.poll() is None, self.log.read_text()
            time.sleep(every_s)

    def wait_for_units(self, count: int) -> None:
        """Return when so many units have a data file, whether the commit log names them or not."""
        self.wait_until(lambda: len(self.units()) >= count, 0.01)

    def wait_for_the_end_of(self, pids: set[int]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while left := [pid for pid in pids if Path(f"/proc/{pid}/exe").exists()]:
            assert time.monotonic() < deadline, left
            time.sleep(0.1)

    def kill(self) -> None:
        """SIGKILL the driver and everything below it: actors first, they are what writes."""
        below = descendants(self.process.pid)
        kill_all([*sorted(below, key=lambda pid: "UnitActor" not in below[pid]), self.process.pid])
        self.process.wait()

    def finish(self) -> int:
        return self.process.wait(DEADLINE_S)
