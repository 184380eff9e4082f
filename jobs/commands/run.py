"""`run`: plan, prepare, make what is missing, publish."""

import argparse

from jobs.commands.plan import read_plan, show_plan
from jobs.logs import shows_progress
from pipeline.run import run_plan
from pipeline.watermark_key import read_key


def run(options: argparse.Namespace) -> int:
    """`palimpsest run`: 0 done, 1 some units failed for good; a JobError is the caller's exit 2, a RunError its 1."""
    if options.dry_run:
        options.json = False
        return show_plan(options)
    key = read_key(options.key_file)
    plan = read_plan(options, key)
    return 0 if run_plan(plan, options.executor, options.address, key, shows_progress(options)).complete else 1
