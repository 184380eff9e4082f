"""Runs on several Ray nodes of this machine: what comes, goes, is slow or shared, and how busy actors are kept."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.runs import ROOT

DEADLINE_S = 240


def result_of(scenario: str, folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.cluster.simulated", scenario, str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
def test_a_node_that_dies_loses_no_unit(tmp_path: Path) -> None:
    assert result_of("node_dies", tmp_path) == {"whole": True, "failed": [], "nodes_left": 1}


@pytest.mark.chaos
def test_a_node_that_comes_is_used_and_may_go(tmp_path: Path) -> None:
    assert result_of("node_comes_and_goes", tmp_path) == {"whole": True, "failed": [], "workers": 3, "gone": True}


@pytest.mark.slow
def test_an_autoscaler_brings_nodes_from_none_and_takes_them_when_a_branch_ends(tmp_path: Path) -> None:
    found = result_of("nodes_on_demand", tmp_path)
    last = found.pop("last")
    assert found == {"whole": True, "failed": [], "before": 0, "most": 3, "after": 0, "devices": ["", "0"]}
    assert last == 1  # the CPU nodes went while the branch on the GPU ran


@pytest.mark.chaos
def test_no_unit_waits_behind_another_on_a_slow_node(tmp_path: Path) -> None:
    found = result_of("slow_node", tmp_path)
    assert (found["whole"], found["failed"], found["workers"]) == (True, [], 4)
    assert found["tail_s"] < 1.5 * found["slow_unit_s"]  # a unit that waits there would make it two


@pytest.mark.chaos
def test_a_node_without_the_output_folder_is_named(tmp_path: Path) -> None:
    found = result_of("no_output_folder", tmp_path)
    assert f"does not see the output folder {tmp_path / 'out'} that the driver writes to" in found["error"]


@pytest.mark.slow
def test_branches_share_a_gpu_by_fractions_and_none_waits_for_another_to_end(tmp_path: Path) -> None:
    found = result_of("gpu_fractions", tmp_path)
    assert (found["whole"], found["failed"], found["devices"]) == (True, [], ["0"])
    assert found["most_at_once"] <= 4
    order = found["order"]
    last = {name: len(order) - 1 - order[::-1].index(name) for name in "abc"}
    assert order.index("c") < last["a"]  # the last branch began while the first still ran
    assert last["b"] < last["a"]


@pytest.mark.slow
def test_actors_that_wait_are_kept_busy() -> None:
    command = [sys.executable, "-m", "jobs.bench.cluster", "--json", "--units", "3"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["actors"], found["units"]) == (16, 48)
    # 0.94 was measured beside other work on the same two cores (docs/running.md); a test run has even less of them.
    assert found["busy"] > 0.7
