"""`verify`, `trace`, `replay`, `report`: looking at a data set that is there."""

import base64
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobs.terminal import say, show
from pipeline.audit.verify import SHOWN, verify_dataset
from pipeline.errors import InputError, RecipeError, RowError
from pipeline.keys import read_key
from pipeline.planning.recipe_file import absolute
from pipeline.publishing.finalise import read_manifest
from pipeline.publishing.seal import SEAL, is_sealed, seal_file
from pipeline.shards.images.codecs import decode
from pipeline.shards.output.store import Store, open_store
from pipeline.working_copy import require_lasting
from schemas.recipe import MAX_IMAGE_BYTES

NO_MARK = 3
MOST_TOLD = 12
"""Digits of a chance that mean anything: faults of machines and programs are likelier than one in 10^12."""
PROVES = (
    "the mark says which row an image leads to, unless somebody means to mislead: whoever holds images with and "
    "without their marks can put a mark on another image, or take it off; compare the image with its row"
)
"""What a mark that was read proves, and what it does not."""


def _open(dataset: str) -> Store:
    return open_store(absolute(dataset, str(Path.cwd())))


def verify(dataset: str, key_file: str | None, as_json: bool) -> int:
    """`palimpsest verify DATASET`: 0 where everything holds, 1 where anything does not."""
    found = verify_dataset(_open(dataset), read_key(key_file))
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


def replay(dataset: str, sample: str, key_file: str | None) -> int:
    """`palimpsest replay DATASET --sample-id ID`: 0 equal, 1 different."""
    from pipeline.audit.replay import replay_sample

    made = replay_sample(_open(dataset), sample, read_key(key_file))
    row = made.stored
    _show_origin(row)
    if made.equal:
        say("equal   byte for byte")
        return 0
    for column in made.differs:
        say(f"differs {column}: {made.stored[column]} is stored, {made.again[column]} was made")
    say(f"differs by up to {made.grey_levels} grey levels")
    if made.other_device:
        say(f"made on {made.made_on}, and again on {made.again_on}: on another device last bits may differ")
    return 1


def _bytes_of(image_file: str) -> bytes:
    with Path(image_file).open("rb") as file:
        data = file.read(MAX_IMAGE_BYTES + 1)  # a device never ends
    if len(data) > MAX_IMAGE_BYTES:
        raise RowError("too_large", f"more than {MAX_IMAGE_BYTES} bytes")
    return data


def trace(image_file: str, dataset: str, key_file: str | None, as_json: bool) -> int:
    """`palimpsest trace IMAGE_FILE --dataset DATASET`: 0 found, 3 no mark found."""
    from pipeline.audit.trace import trace_image

    key = read_key(key_file)
    if key is None:
        raise RecipeError("trace needs the watermark key: --key-file FILE or PALIMPSEST_KEY")
    try:
        image = decode(_bytes_of(image_file), 2**31)
    except (OSError, RowError) as error:
        raise InputError(f"{image_file}: not an image that can be read: {error}") from None
    traced = trace_image(image, _open(dataset), key)
    if as_json:
        row = None if traced.row is None else {k: v for k, v in traced.row.items() if k != "image"}
        record = {"payload": traced.payload, "score": round(traced.score, 2), "row": row, "proves": PROVES}
        show(json.dumps(_plain(record), indent=1, allow_nan=False))
    elif traced.row is not None:
        sure = min(traced.score, MOST_TOLD)
        say(f"mark    {traced.payload}, read with this key")
        say(f"chance  10^-{sure:.0f} at most that an image without this mark reads so by accident")
        say(f"note    {PROVES}")
        _show_origin(traced.row)
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


def _show_origin(row: dict[str, Any]) -> None:
    label = "" if row["label"] is None else f", label {row['label']}"
    say(f"sample  {row['sample_id']}, branch {row['branch']}, copy {row['copy_index']}{label}")
    if row["source_uri"]:
        user_id = f" (id {row['source_id']})" if row["source_id"] else ""
        say(f"source  {row['source_uri']} row {row['source_row']}{user_id}")
    for step in row["steps"]:
        model = f" with {step['model_id']}" if step["model_id"] else ""
        say(f"step    {step['operator']} v{step['version']}{model} {step['params']} seed {step['seed']}")
    if row["quality"]:
        scores = ", ".join(f"{score['gate']} {score['score']:.4g}" for score in row["quality"])
        ended = f"refused by {row['rejected_reason']}" if row.get("rejected_reason") else "kept"
        say(f"judged  {scores}: {ended}, attempt {row['attempt'] + 1}")
    for partner in row["partners"]:
        say(f"partner {partner['role']} {partner['source_uri']}")


def report(dataset: str, key_file: str | None) -> int:
    """`palimpsest report DATASET`: writes report/index.html into it, and into its seal where there is the key."""
    from pipeline.audit.report import REPORT, write_report

    require_lasting(dataset, "DATASET", "as DATASET")
    store, key = _open(dataset), read_key(key_file)
    write_report(store, read_manifest(store))
    if store.exists(SEAL) and not is_sealed(store, REPORT):
        if key is not None:
            seal_file(store, REPORT, key)
        else:
            say("note    the seal is of another report: give the key, or `verify` will name it", file=sys.stderr)
    say(f"{store.uri}/{REPORT}")
    return 0
