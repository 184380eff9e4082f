"""A training as a user starts it, in a process of its own, watched from outside through its lines; and its images."""

import gzip
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from jobs.train.loop import harness
from tests.cluster.processes import descendants, kill_all

ROOT = Path(__file__).parents[3]


def images(folder: Path, count: int = 60, size_px: int = 8) -> Path:
    """An IDX pair of three classes: dark, bright, and half of each."""
    rng, labels = np.random.default_rng(0), np.arange(count, dtype=np.uint8) % 3
    pixels = rng.integers(0, 60, (count, size_px, size_px), dtype=np.uint8)
    pixels[labels == 1] += 190
    pixels[labels == 2, ::2] += 190
    header = np.array([2051, count, size_px, size_px], ">i4").tobytes()
    path = folder / "tiny-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(header + pixels.tobytes()))
    written = gzip.compress(np.array([2049, count], ">i4").tobytes() + labels.tobytes())
    (folder / "tiny-labels-idx1-ubyte.gz").write_bytes(written)
    return path


def start(kind: str, config: Path) -> "subprocess.Popen[bytes]":
    """Start `train KIND CONFIG`; what it says goes to a log beside the configuration."""
    # A session of its own, so that one signal reaches Ray's processes as well. Only a test switches Ray's token off.
    environment = os.environ | {"RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    environment.pop("RAY_ADDRESS", None)
    command = [sys.executable, "-m", "jobs", "train", kind, str(config)]
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
