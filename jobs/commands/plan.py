"""`palimpsest plan`: what a run would do. Reads footers, first rows, columns without images; needs no torch, no Ray."""

import argparse
import json
from typing import TYPE_CHECKING

from jobs.arguments import add_json, add_recipe

if TYPE_CHECKING:
    from pipeline.plan import Plan

HELP = "what a run would do: units, rows, images, time, bytes; runs nothing"


def add_arguments(command: argparse.ArgumentParser) -> None:
    add_recipe(command)
    add_json(command)


def call(options: argparse.Namespace) -> int:
    """Print the plan of a recipe."""
    from jobs.plan_summary import as_json, as_text
    from jobs.terminal import show
    from pipeline.planning.estimate import estimate
    from pipeline.publishing.output_checks import check_place

    plan = read_plan(options)
    check_place(plan)
    branches = estimate(plan)
    show(json.dumps(as_json(plan, branches), indent=1) if options.json else as_text(plan, branches))
    return 0


def read_plan(options: argparse.Namespace, key: bytes | None = None) -> "Plan":
    """Return the plan of the recipe that the command line names. Raises JobError."""
    from pipeline.planning.planner import plan_recipe
    from pipeline.planning.recipe_file import load_recipe
    from pipeline.shards.columns.python_values import spare_pandas

    spare_pandas()
    recipe, base = load_recipe(options.recipe, options.set, options.input, options.output)
    return plan_recipe(recipe, base, options.limit, key)
