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
    command.add_argument(
        "--only", action="append", default=[], metavar="BRANCH", help="make units of this branch alone; may be repeated"
    )
    command.add_argument(
        "--units", nargs="+", default=[], metavar="UNIT",
        help="make these units, also where they are there: names, or patterns with * and ?",
    )  # fmt: skip
    command.add_argument(
        "--prune", action="store_true", help="remove what was made of shards that changed or left the input"
    )


def call(options: argparse.Namespace) -> int:
    """Run the recipe. Return 0 where everything was made, 1 where units failed for good."""
    from jobs.commands import plan
    from pipeline.publishing.run_options import RunOptions
    from pipeline.run import run_plan
    from pipeline.watermark_key import read_key

    if options.dry_run:
        options.json = False
        return plan.call(options)
    key = read_key(options.key_file)
    asked = RunOptions(tuple(options.only), tuple(options.units), options.prune)
    planned = plan.read_plan(options, key)
    made = run_plan(planned, options.executor, options.address, key, shows_progress(options), options=asked)
    return 0 if made.complete or (asked.partial and not made.failed) else 1
