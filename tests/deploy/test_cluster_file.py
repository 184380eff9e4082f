"""The cluster file goes through Ray's own preparation and validation; nothing is launched."""

import copy
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from jsonschema import ValidationError
from ray.autoscaler._private.util import prepare_config, validate_config

from pipeline.cluster.node_capacity import nodes_to_come
from pipeline.cluster.scheduling import NodeCapacity

FILE = Path(__file__).resolve().parent.parent.parent / "ray_cluster.yaml"


@pytest.fixture
def config() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return loaded


def test_ray_takes_the_cluster_file(config: dict[str, Any]) -> None:
    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    assert prepared["available_node_types"]["head"]["max_workers"] == 0
    assert prepared["available_node_types"]["gpu"]["max_workers"] == 8


@pytest.mark.parametrize("section", ["unknown_key", "gpu", "head_node_type"])
def test_ray_refuses_a_broken_one(config: dict[str, Any], section: str) -> None:
    if section == "unknown_key":
        config["idle_minutes"] = 5
    elif section == "gpu":
        config["available_node_types"]["gpu"]["max_workers"] = "many"
    else:
        config["head_node_type"] = "hed"
    with pytest.raises((ValidationError, ValueError, KeyError, TypeError)):
        validate_config(prepare_config(config))


def test_the_engine_counts_the_gpus_that_will_come(config: dict[str, Any]) -> None:
    assert nodes_to_come(config, [NodeCapacity(0)]) == [NodeCapacity(8, 1)] * 8


def test_it_says_what_was_validated_and_that_it_was_never_launched() -> None:
    head = FILE.read_text().split("\n\n")[0]
    assert f"Ray {ray.__version__}'s own schema" in head and "never launched" in head


def test_nodes_install_the_lock_file_ask_for_a_token_and_get_no_key(config: dict[str, Any]) -> None:
    installs = " ".join(config["setup_commands"])
    assert "--require-hashes -r /home/ubuntu/palimpsest/requirements.lock" in installs
    starts = [line for who in ("head", "worker") for line in config[f"{who}_start_ray_commands"] if "ray start" in line]
    assert len(starts) == 2 and all("RAY_AUTH_MODE=token" in line for line in starts)
    assert "/home/ubuntu/.ray/auth_token" in config["file_mounts"] and "**/*.key" in config["rsync_exclude"]
