"""`palimpsest verify`: whether everything that a data set says of itself holds."""

import argparse
import json

from jobs.arguments import add_json, add_key

HELP = "recompute every checksum, count, link and watermark of a data set"


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("dataset", metavar="DATASET")
    add_key(command)
    command.add_argument(
        "--sample", metavar="SHARE", type=float, default=1.0,
        help="read the files of this share of the units, such as 0.01; names, sizes and records of all are checked",
    )  # fmt: skip
    command.add_argument("--seed", metavar="N", type=int, help="of the sample; by chance where it is not given")
    text = "inline (default): one process; ray: all processors of --address"
    command.add_argument("--executor", choices=("inline", "ray"), default="inline", help=text)
    command.add_argument("--address", default="local", help="local (default), auto, or HOST of a Ray cluster")
    add_json(command)


def call(options: argparse.Namespace) -> int:
    """Verify the data set. Return 0 where everything holds, 1 where anything does not."""
    import palimpsest
    from jobs.terminal import say, show
    from pipeline.audit.verification import SHOWN
    from pipeline.watermark_key import read_key

    found = palimpsest.verify(
        options.dataset,
        read_key(options.key_file),
        sample=options.sample,
        seed=options.seed,
        executor=options.executor,
        address=options.address,
    )
    if options.json:
        record = {
            "ok": found.ok,
            "files": found.files,
            "images": found.images,
            "source_links": found.source_links,
            "watermarks": found.watermarks,
            "sealed": found.sealed,
            "findings": found.findings,
            "more": found.more,
            "notes": found.notes,
        }
        show(json.dumps(record, indent=1))
        return 0 if found.ok else 1
    for finding in found.findings[:SHOWN]:
        say(f"WRONG  {finding}")
    if len(found.findings) > SHOWN:
        say(f"WRONG  and {len(found.findings) + found.more - SHOWN} more")
    for note in found.notes:
        say(f"note   {note}")
    state = "verified" if found.ok else "NOT verified"
    say(
        f"{state}: {found.files} files, {found.images} images, {found.source_links} links to source rows, "
        f"{found.watermarks} watermarks, {'the seal' if found.sealed else 'seal not verified'}"
    )
    return 0 if found.ok else 1
