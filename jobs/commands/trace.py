"""`palimpsest trace`: from an image file found anywhere to the row it came from."""

import argparse
import base64
import json
import math
import sys
from collections.abc import Mapping
from typing import Any

from jobs.arguments import add_json, add_key

HELP = "from an image file found anywhere to the row it came from"
NO_MARK = 3
MAX_EXPONENT = 12
"""Digits of a chance that mean anything: faults of machines and programs are likelier than one in 10^12."""
PROVES = (
    "the mark says which row an image leads to, unless somebody means to mislead: whoever holds images with and "
    "without their marks can put a mark on another image, or take it off; compare the image with its row"
)
"""What a mark that was read proves, and what it does not."""


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("image", metavar="IMAGE_FILE")
    command.add_argument("--dataset", metavar="DATASET", required=True)
    add_key(command)
    add_json(command)


def call(options: argparse.Namespace) -> int:
    """Read the mark and print the rows it leads to, nearly always one. Return 0, or 3 where there is none."""
    import palimpsest
    from jobs.datasets import show_origin
    from jobs.terminal import say, show
    from pipeline.watermark_key import read_key

    traced = palimpsest.trace(options.image, options.dataset, read_key(options.key_file))
    if options.json:
        rows = [{name: value for name, value in row.items() if name != "image"} for row in traced.rows]
        record = {"payload": traced.payload, "score": round(traced.score, 2), "row": next(iter(rows), None)}
        record |= {"rows": rows, "proves": PROVES}
        show(json.dumps(_plain(record), indent=1, allow_nan=False))
    elif traced.row is not None:
        sure = min(traced.score, MAX_EXPONENT)
        say(f"mark    {traced.payload}, read with this key")
        say(f"chance  10^-{sure:.0f} at most that an image without this mark reads so by accident")
        say(f"note    {PROVES}")
        if len(traced.rows) > 1:
            say(f"note    {len(traced.rows)} rows share this mark's name: compare the image with each")
        for row in traced.rows:
            show_origin(row)
    else:
        say("no mark found" if traced.payload is None else f"mark {traced.payload} of this key, of another data set")
    if traced.other_key is not None:
        say(f"note    the data set was marked with key {traced.other_key}, and this is another", file=sys.stderr)
    return 0 if traced.row is not None else NO_MARK


def _plain(value: Any) -> Any:
    """Return what JSON can hold: null for a number that is not finite, base64 for bytes, text for what is left."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return value if value is None or isinstance(value, bool | int | str) else str(value)
