"""Manifest checks: the manifest and the index against the markers, and markers against their own sums."""

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.plan import ORIGINAL
from pipeline.publishing.manifest import count, same_counts
from pipeline.registry import GATES, OPERATORS
from pipeline.shards.output.commit import FOLDERS, INDEX, markers_digest
from pipeline.shards.units import plan_digest
from schemas.manifest import Manifest, UnitRecord
from schemas.recipe import Recipe


def manifest_findings(manifest: Manifest, markers: Mapping[str, UnitRecord]) -> Iterator[str]:
    """Yield every contradiction between a manifest, its recipe and the markers."""
    if not manifest.complete:
        yield f"the manifest says incomplete: {len(markers)} of {manifest.units} units are there"
    elif len(markers) != manifest.units:
        yield f"{manifest.units} units planned, {len(markers)} markers found"
    if markers_digest(markers) != manifest.markers.get("sha256"):
        yield "the markers are not those the manifest was written for"
    if not same_counts(manifest.counts, count(markers.values())):
        yield "the counts in the manifest are not the sum of the markers"
    yield from _branches(manifest, markers)
    yield from _watermark(manifest)
    if manifest.complete and len(markers) == manifest.units:
        yield from _units(manifest, markers)


def index_findings(index: Mapping[str, UnitRecord], markers: Mapping[str, UnitRecord]) -> Iterator[str]:
    """Yield every record of the index that differs from the unit's marker; the newest ones may be missing there."""
    for unit, marker in index.items():
        if marker != markers.get(unit):
            yield f"{INDEX}: unit {unit} is not there as in its commit record"


def marker_findings(manifest: Manifest, name: str, marker: UnitRecord, copies: int, where: str | None) -> Iterator[str]:
    """Yield every contradiction between a marker, its own sums and its branch in the manifest."""
    unit = f"unit {name}"
    if marker.copies != max(1, copies):
        yield f"{unit}: {marker.copies} copies by its marker, {max(1, copies)} by the manifest"
    if (marker.shard is None) != (copies == 0):
        yield f"{unit}: its branch is made {'without' if copies == 0 else 'from'} sources, unlike its marker"
    if not 0 <= marker.selected <= marker.rows or (where is None and marker.selected != marker.rows):
        yield f"{unit}: {marker.selected} of {marker.rows} rows selected, and its branch selects {where or 'all'}"
    accounted = marker.accepted + marker.rejected + marker.quarantined * marker.copies
    if accounted != marker.selected * marker.copies:
        yield f"{unit}: {marker.selected * marker.copies} images asked for, {accounted} accounted for"
    for folder, file in marker.files.items():
        if folder not in FOLDERS or file.path != f"{folder}/{name}.parquet":
            yield f"{unit}: {file.path} is not where its files belong"
    if marker.shard is not None and marker.shard not in {record.path for record in manifest.shards}:
        yield f"shard {marker.shard}: rows were made from it, and the manifest does not list it"


def _branches(manifest: Manifest, markers: Mapping[str, UnitRecord]) -> Iterator[str]:
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
        counted = count(marker for marker in markers.values() if marker.branch == name)
        if not same_counts(manifest.branches.get(name), counted):
            yield f"branch {name}: the counts in the manifest are not the sum of its markers"


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


def _units(manifest: Manifest, markers: Mapping[str, UnitRecord]) -> Iterator[str]:
    """Yield findings about the units of a complete data set: they are those of the plan, and cover every shard."""
    branches = {chain.get("name"): place for place, chain in enumerate(manifest.chains)}
    shards = {record.path: place for place, record in enumerate(manifest.shards)}

    def place(name: str) -> tuple[int, int, str, int]:
        marker = markers[name]
        part = shards.get(marker.shard, -1) if marker.shard is not None else -1
        if isinstance(marker.label, int):
            part = marker.label
        return branches.get(marker.branch, -1), part, str(marker.label), marker.first

    ordered = sorted(markers, key=place)
    if plan_digest((name, markers[name].digest) for name in ordered) != manifest.plan_digest:
        yield "the plan_digest in the manifest is not that of its units"
    for chain in manifest.chains:
        left = manifest.limit
        for record in manifest.shards if chain.get("copies") else ():
            rows = record.rows if left is None else min(record.rows, left)
            left = None if left is None else left - rows
            own = [m for m in markers.values() if (m.branch, m.shard) == (chain.get("name"), record.path)]
            covered = sorted((marker.first, marker.first + marker.rows) for marker in own)
            ends = [0, *(end for _, end in covered)]
            if [first for first, _ in covered] != ends[:-1] or ends[-1] != rows:
                yield f"branch {chain.get('name')}: its units do not cover the {rows} rows of shard {record.path}"
