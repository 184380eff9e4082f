"""`verify`, `replay`, `report`: looking at a data set that is there."""

import json
from pathlib import Path

from pipeline.recipes import absolute
from pipeline.shards.store import Store, open_store
from pipeline.verify import SHOWN, read_manifest, verify_dataset


def _open(dataset: str) -> Store:
    return open_store(absolute(dataset, str(Path.cwd())))


def verify(dataset: str, as_json: bool) -> int:
    """`palimpsest verify DATASET`: 0 where everything holds, 1 where anything does not."""
    found = verify_dataset(_open(dataset))
    if as_json:
        record = {
            "ok": found.ok,
            "files": found.files,
            "images": found.images,
            "source_links": found.source_links,
            "findings": found.findings,
            "notes": found.notes,
        }
        print(json.dumps(record, indent=1))
        return 0 if found.ok else 1
    for finding in found.findings[:SHOWN]:
        print(f"WRONG  {finding}")
    if len(found.findings) > SHOWN:
        print(f"WRONG  and {len(found.findings) - SHOWN} more")
    for note in found.notes:
        print(f"note   {note}")
    state = "verified" if found.ok else "NOT verified"
    print(f"{state}: {found.files} files, {found.images} images, {found.source_links} links to source rows")
    return 0 if found.ok else 1


def replay(dataset: str, sample: str) -> int:
    """`palimpsest replay DATASET --sample-id ID`: 0 equal, 1 different."""
    from pipeline.replay import replay_sample

    made = replay_sample(_open(dataset), sample)
    row = made.stored
    print(f"sample  {sample}, branch {row['branch']}, copy {row['copy_index']}")
    if row["source_uri"]:
        print(
            f"source  {row['source_uri']} row {row['source_row']}"
            + (f" (id {row['source_id']})" if row["source_id"] else "")
        )
    for step in row["steps"]:
        print(f"step    {step['operator']} v{step['version']} {step['params']}")
    if made.equal:
        print("equal   byte for byte")
        return 0
    for column in made.differs:
        print(f"differs {column}: {made.stored[column]} is stored, {made.again[column]} was made")
    print(f"differs by up to {made.grey_levels} grey levels")
    return 1


def report(dataset: str) -> int:
    """`palimpsest report DATASET`: writes report/index.html into it."""
    from pipeline.report import write_report

    store = _open(dataset)
    write_report(store, read_manifest(store))
    print(f"{store.uri}/report/index.html")
    return 0
