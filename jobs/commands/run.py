"""`palimpsest run`: plan, prepare, make what is missing, publish."""

import argparse

from jobs.arguments import add_executor, add_key, add_recipe
from jobs.logs import add_log_options, shows_progress

HELP = "make a data set; the same command again does only what is missing"


def add_arguments(command: argparse.ArgumentParser) -> None:
    add_recipe(command)
    add_key(command)
    command.add_argument("--address", default="local", help="local (default), auto, or HOST of a Ray cluster")
    add_executor(command)
    add_log_options(command)
    command.add_argument("--dry-run", action="store_true", help="print the plan and stop")


def call(options: argparse.Namespace) -> int:
    """Run the recipe. Return 0 where everything was made, 1 where units failed for good."""
    from jobs.commands import plan
    from pipeline.run import run_plan
    from pipeline.watermark_key import read_key

    if options.dry_run:
        options.json = False
        return plan.call(options)
    key = read_key(options.key_file)
    made = run_plan(plan.read_plan(options, key), options.executor, options.address, key, shows_progress(options))
    return 0 if made.complete else 1
