"""`palimpsest verify`: whether everything that a data set says of itself holds."""

import argparse
import json

from jobs.arguments import add_json, add_key

HELP = "recompute every checksum, count, link and watermark of a data set"


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("dataset", metavar="DATASET")
    add_key(command)
    add_json(command)


def call(options: argparse.Namespace) -> int:
    """Verify the data set. Return 0 where everything holds, 1 where anything does not."""
    import palimpsest
    from jobs.terminal import say, show
    from pipeline.audit.verification import SHOWN
    from pipeline.watermark_key import read_key

    found = palimpsest.verify(options.dataset, read_key(options.key_file))
    if options.json:
        record = {
            "ok": found.ok,
            "files": found.files,
            "images": found.images,
            "source_links": found.source_links,
            "watermarks": found.watermarks,
            "sealed": found.sealed,
            "findings": found.findings,
            "notes": found.notes,
        }
        show(json.dumps(record, indent=1))
        return 0 if found.ok else 1
    for finding in found.findings[:SHOWN]:
        say(f"WRONG  {finding}")
    if len(found.findings) > SHOWN:
        say(f"WRONG  and {len(found.findings) - SHOWN} more")
    for note in found.notes:
        say(f"note   {note}")
    state = "verified" if found.ok else "NOT verified"
    say(
        f"{state}: {found.files} files, {found.images} images, {found.source_links} links to source rows, "
        f"{found.watermarks} watermarks, {'the seal' if found.sealed else 'no seal'}"
    )
    return 0 if found.ok else 1
