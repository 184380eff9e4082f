"""`palimpsest report`: the page of a data set, written anew."""

import argparse

from jobs.arguments import add_key

HELP = "write report/index.html: one self-contained page"


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("dataset", metavar="DATASET")
    add_key(command)


def call(options: argparse.Namespace) -> int:
    """Write report/index.html into the data set, and its digest into the seal where there is the key."""
    import palimpsest
    from jobs.terminal import say
    from pipeline.watermark_key import read_key
    from pipeline.working_dir import require_persistent

    require_persistent(options.dataset, "DATASET", "as DATASET")
    say(palimpsest.report(options.dataset, read_key(options.key_file)))
    return 0
