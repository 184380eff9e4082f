"""CPUs and GPUs of the cluster's nodes, and of those that its autoscaler may still start."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
import yaml

from pipeline.cluster.ray_internals import started_here
from pipeline.cluster.scheduling import NodeCapacity

_ray: Any = ray

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
