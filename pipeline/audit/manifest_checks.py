"""Manifest checks: the manifest against the records of its units, and records against their own sums."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.plan import ORIGINAL
from pipeline.publishing.log_state import record_hash
from pipeline.registry import GATES, OPERATORS
from pipeline.shards.output.counts import count
from pipeline.shards.output.segments import FOLDERS
from pipeline.shards.output.unit_files import file_path
from pipeline.shards.units import plan_digest
from schemas.manifest import Manifest, UnitRecord
from schemas.recipe import Recipe


def manifest_findings(manifest: Manifest, records: Mapping[str, UnitRecord]) -> Iterator[str]:
    """Yield every contradiction between a manifest, its recipe and the records."""
    if not manifest.complete:
        yield f"the manifest says incomplete: {len(records)} of {manifest.units} units are there"
    elif len(records) != manifest.units:
        yield f"{manifest.units} units planned, {len(records)} records found"
    ordered = _in_plan_order(manifest, records)
    hashes = b"".join(record_hash(records[name]) for name in ordered)
    if hashlib.sha256(hashes).hexdigest() != manifest.commits.sha256:
        yield "the commit log is not the one the manifest was written for"
    if manifest.counts != count(records.values()):
        yield "the counts in the manifest are not the sum of the records"
    yield from _branches(manifest, records)
    yield from _watermark(manifest)
    if manifest.complete and len(records) == manifest.units:
        yield from _units(manifest, records, ordered)


def record_findings(manifest: Manifest, name: str, record: UnitRecord, copies: int, where: str | None) -> Iterator[str]:
    """Yield every contradiction between a record, its own sums and its branch in the manifest."""
    unit = f"unit {name}"
    if record.copies != max(1, copies):
        yield f"{unit}: {record.copies} copies by its record, {max(1, copies)} by the manifest"
    if (record.shard is None) != (copies == 0):
        yield f"{unit}: its branch is made {'without' if copies == 0 else 'from'} sources, unlike its record"
    if not 0 <= record.selected <= record.rows or (where is None and record.selected != record.rows):
        yield f"{unit}: {record.selected} of {record.rows} rows selected, and its branch selects {where or 'all'}"
    accounted = record.accepted + record.rejected + record.quarantined * record.copies
    if accounted != record.selected * record.copies:
        yield f"{unit}: {record.selected * record.copies} images asked for, {accounted} accounted for"
    for folder, file in record.files.items():
        if folder not in FOLDERS or file.path != file_path(folder, name, file.sha256):
            yield f"{unit}: {file.path} is not where its files belong"
    if record.shard is not None and record.shard not in {shard.path for shard in manifest.shards}:
        yield f"shard {record.shard}: rows were made from it, and the manifest does not list it"


def _branches(manifest: Manifest, records: Mapping[str, UnitRecord]) -> Iterator[str]:
    recipe = Recipe.model_validate(manifest.recipe)
    names = [chain.get("name") for chain in manifest.chains]
    asked = [ORIGINAL] * recipe.output.keep_originals + [branch.name for branch in recipe.branches]
    if sorted(map(str, names)) != sorted(asked):
        yield f"the manifest's chains are of {names}, and its recipe asks for {asked}"
    for branch in recipe.branches:
        steps = [name for step in branch.operators for name in step]
        for chain in manifest.chains:
            if chain.get("name") != branch.name:
                continue
            if [step.get("operator") for step in chain.get("steps", ())] != steps:
                yield f"branch {branch.name}: the manifest's chain is not of the operators that its recipe asks for"
            yield from _packages(recipe, chain)
    for name in sorted({*manifest.branches, *asked}):
        counted = count(record for record in records.values() if record.branch == name)
        if manifest.branches.get(name) != counted:
            yield f"branch {name}: the counts in the manifest are not the sum of its records"


def _packages(recipe: Recipe, chain: Mapping[str, Any]) -> Iterator[str]:
    """Yield where a built-in name is said to be of a package: its class, not the manifest, says what it does."""
    asked = {name for entry in recipe.quality.gates for name in entry} & {*GATES}
    parts = [(step, step.get("operator"), {*OPERATORS}) for step in chain.get("steps", ())]
    parts += [(gate, gate.get("gate"), asked) for gate in chain.get("gates", ())]
    for part, name, known in parts:
        if name in known and part.get("package") is not None:
            yield f"branch {chain['name']}: {name} is built in, and the manifest says that it is of a package"


def _watermark(manifest: Manifest) -> Iterator[str]:
    asked = Recipe.model_validate(manifest.recipe).watermark
    settings = None if asked == "none" else asked.model_dump(mode="json")
    recorded = manifest.watermark
    if recorded is not None:
        recorded = {name: value for name, value in recorded.items() if name != "key_id"}
    if recorded != settings:
        yield f"the manifest's watermark is {recorded or 'none'}, and its recipe asks for {settings or 'none'}"


def _in_plan_order(manifest: Manifest, records: Mapping[str, UnitRecord]) -> list[str]:
    """Return the names of units in the order of the plan: by branch, then shard or class, then first row."""
    branches = {chain.get("name"): place for place, chain in enumerate(manifest.chains)}
    shards = {shard.path: place for place, shard in enumerate(manifest.shards)}

    def place(name: str) -> tuple[int, int, str, int]:
        record = records[name]
        part = shards.get(record.shard, -1) if record.shard is not None else -1
        if isinstance(record.label, int):
            part = record.label
        return branches.get(record.branch, -1), part, str(record.label), record.first

    return sorted(records, key=place)


def _units(manifest: Manifest, records: Mapping[str, UnitRecord], ordered: list[str]) -> Iterator[str]:
    """Yield findings about the units of a complete data set: they are those of the plan, and cover every shard."""
    if plan_digest((name, records[name].digest) for name in ordered) != manifest.plan_digest:
        yield "the plan_digest in the manifest is not that of its units"
    ranges: dict[tuple[str, str | None], list[tuple[int, int]]] = {}
    for record in records.values():
        ranges.setdefault((record.branch, record.shard), []).append((record.first, record.first + record.rows))
    for chain in manifest.chains:
        left = manifest.limit
        for shard in manifest.shards if chain.get("copies") else ():
            rows = shard.rows if left is None else min(shard.rows, left)
            left = None if left is None else left - rows
            covered = sorted(ranges.get((str(chain.get("name")), shard.path), []))
            ends = [0, *(end for _, end in covered)]
            if [first for first, _ in covered] != ends[:-1] or ends[-1] != rows:
                yield f"branch {chain.get('name')}: its units do not cover the {rows} rows of shard {shard.path}"
