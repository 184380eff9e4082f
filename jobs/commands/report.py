"""`palimpsest report`: the page of a data set, written anew."""

import argparse
import sys

from jobs.arguments import add_key

HELP = "write report/index.html: one self-contained page"


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("dataset", metavar="DATASET")
    add_key(command)


def call(options: argparse.Namespace) -> int:
    """Write report/index.html into the data set, and its digest into the seal where there is the key."""
    from jobs.datasets import open_dataset
    from jobs.terminal import say
    from pipeline.audit.report import REPORT, write_report
    from pipeline.publishing.manifest import read_manifest
    from pipeline.publishing.seal import SEAL, is_sealed, seal_file
    from pipeline.watermark_key import read_key
    from pipeline.working_dir import require_persistent

    require_persistent(options.dataset, "DATASET", "as DATASET")
    store, key = open_dataset(options.dataset), read_key(options.key_file)
    write_report(store, read_manifest(store))
    if store.exists(SEAL) and not is_sealed(store, REPORT):
        if key is not None:
            seal_file(store, REPORT, key)
        else:
            say("note    the seal is of another report: give the key, or `verify` will name it", file=sys.stderr)
    say(f"{store.uri}/{REPORT}")
    return 0
