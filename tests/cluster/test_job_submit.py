"""`ray job submit` on a head of our own: the documented command, from the working directory to the data set."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.processes import descendants, kill_all
from tests.data_sets import contents, plan_of, run_here, write_input, write_recipe

pytest.importorskip("aiohttp_cors", reason="needs ray[default]: the dashboard takes jobs")

ROOT = Path(__file__).resolve().parent.parent.parent
RAY = str(Path(sys.executable).parent / "ray")
DEADLINE_S = 60


@pytest.fixture
def head() -> Iterator[str]:
    """Start a head on free ports with its own folder; yield the address of its dashboard; end its processes by id."""
    folder = tempfile.mkdtemp(prefix="head-", dir="/tmp")  # short: a socket's path has at most 107 bytes
    dashboard, *ports = _free_ports(4)
    environment = {**os.environ, "PATH": f"{Path(RAY).parent}{os.pathsep}{os.environ['PATH']}"}
    command = [
        RAY, "start", "--head", "--block", "--disable-usage-stats", f"--temp-dir={folder}", "--num-cpus=4",
        "--include-dashboard=true", f"--dashboard-port={dashboard}", f"--port={ports[0]}",
        f"--ray-client-server-port={ports[1]}", f"--dashboard-agent-listen-port={ports[2]}",
    ]  # fmt: skip
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        address = f"http://127.0.0.1:{dashboard}"
        _wait_for(f"{address}/api/version")
        yield address
    finally:
        kill_all([*descendants(process.pid), process.pid])
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_a_submitted_job_runs_to_the_end(head: str, tmp_path: Path) -> None:
    write_input(tmp_path / "data", shards=1, rows=12)
    recipe = write_recipe(tmp_path)
    run_here(plan_of(recipe, output__uri="undisturbed"))
    submitted = subprocess.run(
        [RAY, "job", "submit", "--address", head, "--working-dir", ".", "--",
         "python", "-m", "jobs", "run", str(recipe), "--address", "auto"],
        cwd=ROOT, capture_output=True, text=True, timeout=3 * DEADLINE_S,
    )  # fmt: skip
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    assert "succeeded" in submitted.stdout
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            assert time.monotonic() < deadline, f"{url} does not answer"
            time.sleep(0.2)
