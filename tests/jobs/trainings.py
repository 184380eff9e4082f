"""A training as a user starts it, in a process of its own, watched from outside through the lines it tells."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from jobs.train import harness
from tests.cluster.processes import descendants, kill_all

ROOT = Path(__file__).parents[2]


def start(kind: str, config: Path) -> "subprocess.Popen[bytes]":
    """Start `train KIND CONFIG`; what it says goes to a log beside the configuration."""
    # A session of its own, so that one signal reaches Ray's processes as well. Only a test switches Ray's token off.
    environment = os.environ | {"RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    environment.pop("RAY_ADDRESS", None)
    command = [sys.executable, "-m", "jobs.train", kind, str(config)]
    with open(config.with_suffix(".log"), "ab") as log:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True)


def lines_told(folder: Path) -> list[dict[str, float]]:
    """The metrics that a run has written into its folder so far."""
    path = folder / harness.METRICS_FILE
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait_for_step(process: "subprocess.Popen[bytes]", folder: Path, step: int) -> None:
    """Return once the run has told of this step; fail where it ends before, or within two minutes does not come."""
    deadline = time.monotonic() + 120
    while not any(line["step"] >= step for line in lines_told(folder)):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)


def kill(process: "subprocess.Popen[bytes]") -> None:
    """SIGKILL to the driver and to everything below it: Ray's workers have sessions of their own."""
    kill_all([*descendants(process.pid), process.pid])
    process.wait()
