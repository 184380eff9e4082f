"""`palimpsest replay`: one image made again from its lineage, and compared."""

import argparse

from jobs.arguments import add_key

HELP = "make one image again from its lineage and compare it with what is stored"


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("dataset", metavar="DATASET")
    command.add_argument("--sample-id", metavar="ID", required=True)
    text = "an operator or a gate of yours that is on the path and not installed: replay may import it"
    command.add_argument("--allow", metavar="MODULE:CLASS", action="append", default=[], help=text)
    add_key(command)


def call(options: argparse.Namespace) -> int:
    """Make the image again. Return 0 where it is equal, 1 where it differs."""
    import palimpsest
    from jobs.datasets import show_origin
    from jobs.terminal import say
    from pipeline.watermark_key import read_key

    key = read_key(options.key_file)
    made = palimpsest.replay(options.dataset, options.sample_id.lower(), key, options.allow)
    show_origin(made.stored)
    if made.equal:
        say("equal   byte for byte")
        return 0
    for column in made.differs:
        say(f"differs {column}: {made.stored[column]} is stored, {made.replayed[column]} was made")
    say(f"differs by up to {made.grey_levels} grey levels")
    if made.other_device:
        say(
            f"made on {made.stored_device}, and again on {made.replayed_device}: on another device last bits may differ"
        )
    return 1
