"""Rooms: what the nodes of the cluster have, and what its autoscaler may still start."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
import ray._private.worker
import yaml

from pipeline.cluster.pools import Room

_ray: Any = ray

BOOTSTRAP = Path("~/ray_bootstrap_config.yaml")
"""Where `ray up` leaves the cluster file on the head node."""


def rooms() -> list[Room]:
    """Return the nodes of the cluster this process is connected to, those its autoscaler may still add included."""
    nodes = [node["Resources"] for node in _ray.nodes() if node["Alive"]]
    there = [Room(node.get("CPU", 0.0), node.get("GPU", 0.0)) for node in nodes]
    driver = _ray._private.worker.global_worker.node
    own = driver is not None and driver.is_head()  # started by this process
    path = BOOTSTRAP.expanduser()
    if own or not path.is_file():
        return there
    return there + rooms_to_come(yaml.safe_load(path.read_text()), there)


def rooms_to_come(cluster_file: dict[str, Any], there: Sequence[Room]) -> list[Room]:
    """Return the nodes of a cluster file that are not there yet: a GPU that will come with demand is not missing.

    Ray itself tells a driver only about nodes that are up.
    """
    most = int(cluster_file.get("max_workers", 0))
    head = cluster_file.get("head_node_type")
    to_come: list[Room] = []
    for name, kind in cluster_file.get("available_node_types", {}).items():
        resources = kind.get("resources", {})
        room = Room(float(resources.get("CPU", 0)), float(resources.get("GPU", 0)))
        to_come += [room] * (1 if name == head else min(most, int(kind.get("max_workers", most))))
    for room in there:
        if room in to_come:
            to_come.remove(room)
    return to_come
