"""`demo`: the embedded recipe, end to end."""

import argparse
import importlib.resources
import os
from pathlib import Path

from jobs.commands.plan import read_plan
from pipeline.run import run_plan
from pipeline.watermark_key import KEY_VARIABLE, new_key_file, read_key
from pipeline.working_dir import require_persistent


def demo(out: str, executor: str) -> int:
    """`palimpsest demo`: the embedded recipe; prints where the data set, its report and its key lie."""
    require_persistent(out, "--out", "by --out")
    key_file = Path(f"{out.rstrip('/')}.key")  # beside the output, never in it
    if KEY_VARIABLE not in os.environ and not key_file.exists():
        new_key_file(key_file)
    key = read_key(None if KEY_VARIABLE in os.environ else str(key_file))
    recipe = importlib.resources.files("jobs") / "recipes" / "demo.yaml"
    with importlib.resources.as_file(recipe) as path:
        options = argparse.Namespace(recipe=str(path), input=None, output=out, set=[], limit=None)
        manifest = run_plan(read_plan(options, key), executor, "local", key)
    where = f"the variable {KEY_VARIABLE}" if KEY_VARIABLE in os.environ else str(key_file)
    print(f"report:   {out}/report/index.html\nkey:      {where}")
    return 0 if manifest.complete else 1
