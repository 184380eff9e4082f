"""`report`: the page of a data set, written anew."""

import sys

from jobs.commands.dataset import open_dataset
from jobs.terminal import say
from pipeline.publishing.manifest import read_manifest
from pipeline.publishing.seal import SEAL, is_sealed, seal_file
from pipeline.watermark_key import read_key
from pipeline.working_dir import require_persistent


def report(dataset: str, key_file: str | None) -> int:
    """`palimpsest report DATASET`: writes report/index.html into it, and into its seal where there is the key."""
    from pipeline.audit.report import REPORT, write_report

    require_persistent(dataset, "DATASET", "as DATASET")
    store, key = open_dataset(dataset), read_key(key_file)
    write_report(store, read_manifest(store))
    if store.exists(SEAL) and not is_sealed(store, REPORT):
        if key is not None:
            seal_file(store, REPORT, key)
        else:
            say("note    the seal is of another report: give the key, or `verify` will name it", file=sys.stderr)
    say(f"{store.uri}/{REPORT}")
    return 0
