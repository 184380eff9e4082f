"""CPUs and GPUs of the cluster's nodes, and of those that its autoscaler may still start."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
import yaml

from pipeline.cluster.ray_internals import node_types, started_here
from pipeline.cluster.scheduling import NodeCapacity
from pipeline.messages import error_line

_ray: Any = ray
_log = logging.getLogger(__name__)

BOOTSTRAP = Path("~/ray_bootstrap_config.yaml")
"""Where `ray up` leaves the cluster file on the head node."""


def node_capacities() -> list[NodeCapacity]:
    """Return the capacity of every node of this process's cluster, and of those that its autoscaler may add."""
    nodes = [node["Resources"] for node in _ray.nodes() if node["Alive"]]
    there = [NodeCapacity(node.get("CPU", 0.0), node.get("GPU", 0.0)) for node in nodes]
    path = BOOTSTRAP.expanduser()
    if not path.is_file() or started_here():
        return there
    return there + nodes_to_come(yaml.safe_load(path.read_text()), there)


def nodes_to_come(cluster_file: dict[str, Any], there: Sequence[NodeCapacity]) -> list[NodeCapacity]:
    """Return the nodes that a cluster file allows and that are not up yet, so that their GPUs do not count as missing.

    Ray itself tells a driver only about nodes that are up.
    """
    max_workers = int(cluster_file.get("max_workers", 0))
    head = cluster_file.get("head_node_type")
    missing: list[NodeCapacity] = []
    for name, kind in cluster_file.get("available_node_types", {}).items():
        resources = kind.get("resources", {})
        node = NodeCapacity(float(resources.get("CPU", 0)), float(resources.get("GPU", 0)))
        missing += [node] * (1 if name == head else min(max_workers, int(kind.get("max_workers", max_workers))))
    for node in there:
        if node in missing:
            missing.remove(node)
    return missing


def may_grow(within_s: float = 0.0) -> bool:
    """Whether an autoscaler of unknown limits (KubeRay's) adds nodes for actors that find no room.

    Args:
        within_s: how long to wait for an autoscaler that has not said anything yet, as one that has just started.
    """
    if started_here() or BOOTSTRAP.expanduser().is_file():
        return False
    deadline = time.monotonic() + within_s
    while not (types := _node_types()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return any(not name.startswith("node_") for name in types)


def _node_types() -> set[str]:
    try:
        return node_types()
    except Exception as error:  # a busy head, or another Ray: the run goes on with the nodes that are up
        _log.debug("no word of an autoscaler: %s", error_line(error))
        return set()
