"""`ray job submit` on a head of our own: the documented command, from the working directory to the data set."""

import json
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
from ray.util import state

from tests.cluster.processes import descendants, kill_all
from tests.cluster.secrets_found import Processes, files_with, forms
from tests.fixtures.data_sets import findings, plan_of, rows_of, run_here, write_input, write_recipe

pytest.importorskip("aiohttp_cors", reason="needs ray[default]: the dashboard takes jobs")

RAY = str(Path(sys.executable).parent / "ray")
DEADLINE_S = 60
KEY = b"a key that is to be found nowhere, 51d0be"


@pytest.fixture
def head() -> Iterator[tuple[str, Path]]:
    """Start a head on free ports with its own folder; yield its dashboard's address and that folder; end it by id."""
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
        _wait_for(f"http://127.0.0.1:{ports[2]}/api/local_raylet_healthz")  # the agent, which starts jobs
        yield address, Path(folder)
    finally:
        kill_all([*descendants(process.pid), process.pid])
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def submit(address: str, folder: Path, *options: str, id: str) -> subprocess.Popen[str]:
    command = [
        RAY, "job", "submit", "--address", address, "--submission-id", id, "--working-dir", ".", "--",
        sys.executable, "-m", "jobs", "run", "recipe.yaml", "--address", "auto", *options,
    ]  # fmt: skip
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def ended(job: subprocess.Popen[str]) -> tuple[int, str]:
    text, _ = job.communicate(timeout=3 * DEADLINE_S)
    return job.returncode, text


@pytest.mark.slow
def test_a_submitted_folder_from_its_first_refusal_to_the_whole_data_set(
    head: tuple[str, Path], tmp_path: Path
) -> None:
    address, rays = head
    folder, out = tmp_path / "folder", tmp_path / "out"
    write_input(folder / "data", shards=1, rows=400)
    recipe = write_recipe(folder, output={"rows_per_unit": 2}, resources={"flipped": {"actors": 1}})
    (folder / "my.key").write_text("not a real key at all")
    (folder / ".rayignore").write_text("*.key\n")
    status, text = ended(submit(address, folder, id="relative-output"))
    assert status != 0
    assert "output.uri 'out' lies in Ray's unpacked copy" in text
    assert "Traceback" not in text
    assert not out.exists()

    job = submit(address, folder, "--output", str(out), id="stopped")
    deadline = time.monotonic() + 2 * DEADLINE_S
    while len(list((out / "data").glob("*.parquet"))) < 3:
        assert time.monotonic() < deadline and job.poll() is None
        time.sleep(0.05)
    subprocess.run([RAY, "job", "stop", "--address", address, "stopped"], check=True, capture_output=True)
    _, text = ended(job)
    assert "stopped by SIGTERM; the same command goes on where this one ended" in text
    first = {path: path.stat().st_mtime_ns for path in (out / "data").iterdir()}
    assert 3 <= len(first) < 200

    (folder / "notes.txt").write_text("another package")
    status, text = ended(submit(address, folder, "--output", str(out), id="resumed"))
    assert status == 0, text
    assert "are done already" in text
    assert {path: path.stat().st_mtime_ns for path in first} == first
    run_here(plan_of(recipe, output__uri=str(tmp_path / "undisturbed")))
    made, whole = (rows_of(where) for where in (out, tmp_path / "undisturbed"))
    assert {row.pop("source_uri") for row in made} == {"data/train-00000.parquet"}
    assert {row.pop("source_uri") for row in whole} == {str(folder / "data/train-00000.parquet")}
    assert made == whole
    assert not list(rays.rglob("my.key"))


def records(address: str) -> str:
    """Return everything that Ray's head tells of actors, jobs, nodes, workers, tasks, objects and environments."""
    lists = (
        state.list_actors, state.list_jobs, state.list_nodes, state.list_workers, state.list_tasks, state.list_objects,
        state.list_runtime_envs, state.list_placement_groups,
    )  # fmt: skip
    found = {every.__name__: every(address=address, detail=True, limit=10_000) for every in lists}  # type: ignore[operator]
    assert found["list_actors"] and found["list_jobs"]
    with urllib.request.urlopen(f"{address}/api/jobs/", timeout=10) as jobs:
        return f"{found}\n{jobs.read().decode()}"


@pytest.mark.slow
def test_a_job_with_a_runtime_env_and_a_key_leaves_the_key_where_it_was(head: tuple[str, Path], tmp_path: Path) -> None:
    address, rays = head
    folder, out, key = tmp_path / "folder", tmp_path / "out", tmp_path / "secret"
    key.write_bytes(KEY)
    write_input(folder / "data", shards=1, rows=120)
    changes = {"watermark": {"scheme": "stdm"}, "resources": {"flipped": {"actors": 1}}}
    write_recipe(folder, output={"rows_per_unit": 2}, **changes)
    (folder / "my.key").write_bytes(KEY)
    cache = tmp_path / "cache"
    runtime_env = {"working_dir": ".", "excludes": ["*.key"], "env_vars": {"PALIMPSEST_CACHE": str(cache)}}
    command = [
        RAY, "job", "submit", "--address", address, "--submission-id", "marked",
        "--runtime-env-json", json.dumps(runtime_env), "--", sys.executable, "-m", "jobs", "run", "recipe.yaml",
        "--address", "auto", "--output", str(out), "--key-file", str(key), "--log-json",
    ]  # fmt: skip
    job = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    processes, during = Processes(os.getpid()), ""
    while job.poll() is None:
        processes.look()
        if not during and len(list((out / "data").glob("*.parquet"))) >= 2:
            during = records(address)
        time.sleep(0.2)
    status, text = ended(job)
    assert status == 0, text
    assert str(cache) in during and "UnitActor" in during, "the records hold the job's environment and its actors"
    assert processes.seen("UnitActor", "gcs_server", "dashboard")
    assert processes.names_of(KEY) == []
    told = during + records(address) + text
    assert not [form for form in forms(KEY) if form.decode(errors="replace") in told]
    assert files_with(KEY, rays, out, tmp_path / "cache") == []
    assert findings(out, KEY) == [], "it was made with this key"


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
