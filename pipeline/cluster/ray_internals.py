"""What a run needs of Ray that has no public name, each with its reason. No other module touches Ray's internals.

Checked with Ray 2.60; tests/cluster/test_connection.py names the version that breaks one.
"""

import atexit
import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
import ray._private.ray_constants
import ray._private.services
import ray._private.worker
import ray.autoscaler.v2.sdk
import ray.autoscaler.v2.utils
import ray.experimental.internal_kv

constants: Any = ray._private.ray_constants
services: Any = ray._private.services
worker: Any = ray._private.worker


def started_here() -> bool:
    """Whether this process started the Ray that it is connected to. `ray.init` returns that, and may be another's."""
    node = worker.global_worker.node
    return node is not None and bool(node.is_head())


def cluster_address() -> str:
    """Return the address of the cluster that this machine is a node of.

    `ray.init(address="auto")` looks for it, too, but then tries for minutes to reach a head that is gone.

    Raises:
        ConnectionError: this machine is a node of none.
    """
    return str(services.get_ray_address_from_environment("auto", None) or "")


def node_types() -> set[str]:
    """Return the types of the nodes that the cluster's autoscaler lists; none until it has listed any.

    Ray's own list (`ray.nodes`) names neither types nor an autoscaler. Where none adds nodes, Ray still lists those
    that are up, each as a type `node_...` of its own.
    """
    if ray.autoscaler.v2.utils.is_autoscaler_v2():
        status = ray.autoscaler.v2.sdk.get_cluster_status(ray.get_runtime_context().gcs_address)
        return {str(node.ray_node_type_name) for node in (*status.active_nodes, *status.idle_nodes)}
    report = ray.experimental.internal_kv._internal_kv_get(constants.DEBUG_AUTOSCALING_STATUS)
    listed = json.loads(report).get("autoscaler_report", {}) if report else {}
    return {*(listed.get("active_nodes") or ()), *(listed.get("idle_nodes") or ())}


@contextlib.contextmanager
def loopback() -> Iterator[None]:
    """Make a Ray that starts inside this context listen on 127.0.0.1 alone.

    `ray.init(_node_ip_address="127.0.0.1")` has no such effect, since Ray replaces a loopback address by a public one.
    This switch, which Ray sets on Windows and macOS and its processes read from the environment, keeps the address.
    """
    before, variable = constants.ENABLE_RAY_CLUSTER, constants.ENABLE_RAY_CLUSTERS_ENV_VAR
    inherited = os.environ.get(variable)
    constants.ENABLE_RAY_CLUSTER, os.environ[variable] = False, "0"
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before
        os.environ.pop(variable)
        if inherited is not None:
            os.environ[variable] = inherited


@contextlib.contextmanager
def hide_events() -> Iterator[None]:
    """Keep Ray's own lines off the console, where stdout is for results and stderr for progress.

    Ray prints cluster events on stdout whatever `log_to_driver` says; they stay in the session's log files.
    """
    before = worker._worker_logs_enabled
    worker._worker_logs_enabled = False
    try:
        yield
    finally:
        worker._worker_logs_enabled = before


def kill_local_ray(own: bool) -> None:
    """Kill what is left of a Ray that was lost; `ray.shutdown` would wait until Ray's native part ends this process.

    Args:
        own: this process started it; otherwise nothing is killed, and Ray's handler at the exit does not wait either.
    """
    atexit.unregister(ray.shutdown)
    node = worker._global_node
    if not own or node is None:
        return
    orphans = [child for info in node.all_processes.get("raylet", ()) for child in _children(info.process.pid)]
    node.kill_all_processes(check_alive=False)
    for child in orphans:  # agents would wait for the head; workers end by themselves, only later
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []
