"""`palimpsest demo`: the embedded recipe, end to end."""

import argparse
import importlib.resources
import os
from pathlib import Path

from jobs.arguments import add_executor

HELP = "the embedded recipe over the embedded images, end to end"


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--out", metavar="DIR", default="demo-out", help="where to (default: demo-out)")
    add_executor(command)


def call(options: argparse.Namespace) -> int:
    """Run the demo; print where the data set, its report and its key lie."""
    from pipeline.planning.planner import plan_recipe
    from pipeline.planning.recipe_file import load_recipe
    from pipeline.run import run_plan
    from pipeline.watermark_key import KEY_VARIABLE, new_key_file, read_key
    from pipeline.working_dir import require_persistent

    out: str = options.out
    require_persistent(out, "--out", "by --out")
    key_file = Path(f"{out.rstrip('/')}.key")  # beside the output, never in it
    if KEY_VARIABLE not in os.environ and not key_file.exists():
        new_key_file(key_file)
    key = read_key(None if KEY_VARIABLE in os.environ else str(key_file))
    with importlib.resources.as_file(importlib.resources.files("jobs") / "recipes" / "demo.yaml") as path:
        recipe, base = load_recipe(str(path), output_uri=out)
        manifest = run_plan(plan_recipe(recipe, base, key=key), options.executor, "local", key)
    where = f"the variable {KEY_VARIABLE}" if KEY_VARIABLE in os.environ else str(key_file)
    print(f"report:   {out}/report/index.html\nkey:      {where}")
    return 0 if manifest.complete else 1
