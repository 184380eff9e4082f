"""Libraries that are loaded when a class is imported and made, seen in a process of its own."""

import json
import os
import subprocess
import sys
from typing import Any

from pipeline.contracts import Part

HEAVY = ("torch", "torchvision", "diffusers", "transformers", "ray")
"""Libraries that a plan must not wait for."""
_SCRIPT = """
import importlib, json, sys, time
part = getattr(importlib.import_module(sys.argv[1]), sys.argv[2])
params = part.Params(**json.loads(sys.argv[3]))
start = time.perf_counter()
part(params).requirements()
seconds = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "heavy": [name for name in json.loads(sys.argv[4]) if name in sys.modules]}))
"""


def imported_alone(part: type[Part], params: dict[str, Any]) -> dict[str, Any]:
    """Import the module of an operator or a gate and make one, in a fresh process.

    Returns:
        `heavy`: the libraries of `HEAVY` that it imported; `seconds` that making it took.
    """
    arguments = [part.__module__, part.__qualname__, json.dumps(params), json.dumps(HEAVY)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, *arguments], check=False, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found
