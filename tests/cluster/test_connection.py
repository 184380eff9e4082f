"""Connecting to Ray: what cannot be connected to is one clear line; what is private to Ray is where it was."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import ray

from pipeline.cluster import ray_internals
from pipeline.cluster.connection import connect
from pipeline.cluster.node_capacity import may_grow
from pipeline.cluster.ray_internals import cluster_address, constants, hide_events, loopback, started_here, worker
from pipeline.errors import JobError, RunError
from pipeline.monitoring.stopping import stoppable, stopped_by
from tests.cluster.processes import descendants, listening

BROKEN = f"Ray {ray.__version__} broke pipeline/cluster/ray_internals.py: "


def test_a_url_is_answered_with_the_command_that_works() -> None:
    if ray.is_initialized():
        pytest.skip("this process has a Ray already, which connect() uses")
    with pytest.raises(JobError, match="ray job submit"), connect("ray://head:10001"):
        pass


@pytest.mark.parametrize("address", ["auto", "127.0.0.1:1"])
def test_nobody_there_is_one_line_at_once(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    if ray.is_initialized():
        pytest.skip("this process has a Ray already, which connect() uses")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    started = time.monotonic()
    with pytest.raises(JobError) as error, connect(address):
        pass
    assert str(error.value) == f"--address {address}: cannot connect to Ray: [Errno 111] Connection refused"
    assert time.monotonic() - started < 10


def test_a_local_ray_that_does_not_start_is_no_fault_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    if ray.is_initialized():
        pytest.skip("this process has a Ray already, which connect() uses")
    monkeypatch.setenv("RAY_TMPDIR", "/proc/nowhere")
    with pytest.raises(RunError) as error, connect():
        pass
    reason = "[Errno 2] No such file or directory: '/proc/nowhere'"
    assert str(error.value) == f"cannot start a local Ray: {reason}; the same command goes on where this one ended"


def test_a_ray_that_is_there_is_used_and_left_alone(ray_local: None) -> None:
    node = ray.get_runtime_context().get_node_id()
    with connect("local"):
        assert ray.get_runtime_context().get_node_id() == node
    assert ray.is_initialized()
    assert ray.cluster_resources()["GPU"] == 2


def test_a_local_ray_listens_on_the_loopback_interface_alone(ray_local: None) -> None:
    @ray.remote
    def pid() -> int:
        return os.getpid()

    works = ray.get(pid.remote())  # a worker listens as well
    family = {*descendants(os.getpid()), os.getpid()}
    found = listening(family)
    assert works in family
    assert len(found) > 5  # head, raylet, agents, workers: the reading of /proc works
    assert {host for host, _ in found} == {"127.0.0.1"}


def test_a_signal_inside_ray_get_keeps_its_own_code(ray_local: None) -> None:
    @ray.remote(num_cpus=0)
    def never() -> None:
        time.sleep(60)

    waiting = never.remote()
    with stoppable():
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
        with pytest.raises(KeyboardInterrupt) as stopped:
            ray.get(waiting)
        assert stopped_by(stopped.value).status == 143
    ray.cancel(waiting, force=True)
    assert stopped_by(KeyboardInterrupt()).status == 130


@pytest.mark.slow
def test_what_ray_would_replace_or_leave_open_is_mended(tmp_path: Path) -> None:
    script = (
        "import os, signal\n"
        "signal.signal(signal.SIGTERM, lambda number, frame: print('heard'))\n"
        "from pipeline.cluster.connection import connect\n"
        "with connect('local', gpus=0, cpus=1):\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    environment = {**os.environ, "HOME": str(tmp_path), "RAY_AUTH_MODE": "token"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "heard\nheard\n", "")
    assert (tmp_path / ".ray/auth_token").stat().st_mode & 0o777 == 0o600


def test_a_ray_that_this_process_started_is_known(ray_local: None) -> None:
    assert started_here() is True, BROKEN + "started_here"


def test_the_address_of_a_cluster_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.1.2.3:6379")
    assert cluster_address() == "10.1.2.3:6379", BROKEN + "cluster_address"


def test_no_autoscaler_is_taken_for_one(ray_local: None) -> None:
    assert all(name.startswith("node_") for name in ray_internals.node_types()), BROKEN + "node_types"
    assert callable(ray.autoscaler.v2.sdk.get_cluster_status), BROKEN + "node_types"
    assert not may_grow()


def test_the_switch_for_the_loopback_interface_is_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    variable = constants.ENABLE_RAY_CLUSTERS_ENV_VAR
    monkeypatch.setenv(variable, "1")
    before = constants.ENABLE_RAY_CLUSTER
    with loopback():
        assert (constants.ENABLE_RAY_CLUSTER, os.environ[variable]) == (False, "0"), BROKEN + "loopback"
        assert ray._private.services.resolve_ip_for_localhost("127.0.0.1") == "127.0.0.1", BROKEN + "loopback"
    assert (constants.ENABLE_RAY_CLUSTER, os.environ[variable]) == (before, "1")


def test_the_switch_for_events_is_where_it_was() -> None:
    assert isinstance(worker._worker_logs_enabled, bool), BROKEN + "hide_events"
    before = worker._worker_logs_enabled
    with hide_events():
        assert worker._worker_logs_enabled is False
    assert worker._worker_logs_enabled is before


def test_the_processes_of_a_local_ray_are_where_they_were(ray_local: None) -> None:
    node = worker._global_node
    (raylet,) = node.all_processes["raylet"]
    assert ray_internals._children(raylet.process.pid), BROKEN + "kill_local_ray"
    assert callable(node.kill_all_processes), BROKEN + "kill_local_ray"
    assert ray.shutdown is worker.shutdown, BROKEN + "kill_local_ray: another function is called at the exit"
