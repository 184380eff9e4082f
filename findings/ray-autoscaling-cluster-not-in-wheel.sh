#!/usr/bin/env bash
# ray 2.60.0 from PyPI (seen 2026-11-28).
#
# `ray.cluster_utils.AutoscalingCluster`, which Ray's own tests simulate an autoscaler with, is importable, but cannot be
# made: it reads `autoscaler/_private/fake_multi_node/example.yaml`, and the wheel holds the module beside it without that
# file. (With the file, its `start` and `shutdown` call `ray stop --force`, which ends every Ray of the machine.)
# Who is hurt: whoever wants to know before paying for nodes whether their job makes an autoscaler act: waiting actors do,
# and a driver that starts only what fits does not. Remedy: `ray start --head --autoscaling-config FILE` with a file of
# one's own and the provider `fake_multinode`.
#
# Output seen:
#   AutoscalingCluster: FileNotFoundError: example.yaml; node_provider.py is there
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet ray==2.60.0
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
from pathlib import Path

from ray.autoscaler._private import fake_multi_node
from ray.cluster_utils import AutoscalingCluster

beside = sorted(path.name for path in Path(fake_multi_node.__path__[0]).iterdir())
try:
    AutoscalingCluster({"CPU": 0}, {})
    said = "made"
except FileNotFoundError as error:
    said = f"FileNotFoundError: {Path(error.filename).name}"
there = "is there" if "node_provider.py" in beside else "is not there"
print(f"AutoscalingCluster: {said}; node_provider.py {there}")
assert said == "FileNotFoundError: example.yaml" and "node_provider.py" in beside
PY
