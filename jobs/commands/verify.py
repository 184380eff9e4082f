"""`verify`: whether everything that a data set says of itself holds."""

import json

from jobs.commands.dataset import open_dataset
from jobs.terminal import say, show
from pipeline.audit.verify import SHOWN, verify_dataset
from pipeline.watermark_key import read_key


def verify(dataset: str, key_file: str | None, as_json: bool) -> int:
    """`palimpsest verify DATASET`: 0 where everything holds, 1 where anything does not."""
    found = verify_dataset(open_dataset(dataset), read_key(key_file))
    if as_json:
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
