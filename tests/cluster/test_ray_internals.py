"""What is private to Ray and a run uses all the same: each test names the Ray version that broke it."""

import os

import pytest
import ray

from pipeline.cluster import ray_internals
from pipeline.cluster.ray_internals import cluster_address, constants, hide_events, loopback, started_here, worker

BROKEN = f"Ray {ray.__version__} broke pipeline/cluster/ray_internals.py: "


def test_a_ray_that_this_process_started_is_known(ray_local: None) -> None:
    assert started_here() is True, BROKEN + "started_here"


def test_the_address_of_a_cluster_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.1.2.3:6379")
    assert cluster_address() == "10.1.2.3:6379", BROKEN + "cluster_address"


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
