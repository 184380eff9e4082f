"""A cluster of this machine whose autoscaler starts and ends nodes: Ray's own one, with its provider of fake nodes.

`ray.cluster_utils.AutoscalingCluster` needs a file that Ray's wheels lack, and ends every Ray of the machine.
"""

import contextlib
import json
import logging
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray

from tests.cluster.processes import descendants, kill_all

START_S = 90.0
IDLE_MINUTES = 0.05
HEAD = "ray.head.default"
"""The type of the head, whose name Ray's provider has built in."""
UPDATES = {"AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_FAKE_CLUSTER": "1", "RAY_AUTH_MODE": "disabled"}


@contextlib.contextmanager
def autoscaling_cluster(types: dict[str, dict[str, Any]]) -> Iterator[None]:
    """Connect to a head without CPUs whose autoscaler may add nodes.

    Args:
        types: `resources` and `max_workers` of each type of node.
    """
    with socket.socket() as free:
        free.bind(("", 0))
        address = f"{ray.util.get_node_ip_address()}:{free.getsockname()[1]}"
    with tempfile.TemporaryDirectory(prefix="as-", dir="/tmp") as folder:  # its sockets' paths must be short
        config = Path(folder) / "cluster.json"
        config.write_text(json.dumps(_cluster_file(address, types)))
        command = [
            str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", "--num-cpus=0",
            f"--port={address.rpartition(':')[2]}", f"--temp-dir={folder}", "--include-dashboard=false",
            f"--autoscaling-config={config}",
        ]  # fmt: skip
        with (Path(folder) / "head.log").open("wb") as log:
            head = subprocess.Popen(command, env={**os.environ, **UPDATES}, stdout=log, stderr=log)
        try:
            _wait_for(address, head, Path(log.name))
            ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
            yield
        finally:
            below = descendants(head.pid)
            ray.shutdown()
            kill_all([*below, *descendants(head.pid), head.pid])
            head.wait()


def _wait_for(address: str, head: subprocess.Popen[bytes], log: Path) -> None:
    host, _, port = address.partition(":")
    deadline = time.monotonic() + START_S
    while "Ray runtime started" not in log.read_text():
        assert head.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)
    socket.create_connection((host, int(port)), START_S).close()


def _cluster_file(address: str, types: dict[str, dict[str, Any]]) -> dict[str, Any]:
    provider = {
        "type": "fake_multinode",
        "use_node_id_as_ip": True,
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
        "gcs_address": address,
    }
    commands = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
    nothing = {f"{name}_commands": [] for name in commands} | {"cluster_synced_files": [], "auth": {}}
    head = {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}
    return {
        **nothing,
        "cluster_name": "fake",
        "max_workers": sum(each["max_workers"] for each in types.values()),
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": IDLE_MINUTES,
        "provider": provider,
        "file_mounts": {},
        "file_mounts_sync_continuously": False,
        "head_node_type": HEAD,
        "available_node_types": {HEAD: head, **{name: {"node_config": {}, **each} for name, each in types.items()}},
    }
