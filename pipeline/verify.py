"""`verify`: recompute every checksum, count and lineage link of a data set. Trusts nothing that it can compute."""

import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from pipeline.account import Account
from pipeline.contracts import Pixels
from pipeline.errors import InputError, PalimpsestError
from pipeline.keys import key_id
from pipeline.plan import ORIGINAL
from pipeline.publish import MANIFEST, branch_from, count
from pipeline.seeding import step_seed
from pipeline.shards.codecs import decode
from pipeline.shards.commit import FOLDERS, markers_digest, read_markers
from pipeline.shards.layout import read_layout
from pipeline.shards.locate import find_shards
from pipeline.shards.reader import read_windows
from pipeline.shards.store import Store
from pipeline.watermark.payload import payload, to_text
from schemas.manifest import FileRecord, Manifest, Marker
from schemas.recipe import Recipe

LINKS = ("source_uri", "source_row", "source_sha256")
COLUMNS = (
    "image",
    "sample_id",
    "branch",
    "copy_index",
    "attempt",
    "steps",
    "partners",
    "unit_digest",
    "image_sha256",
    "watermarks",
    "quality",
    *LINKS,
)
REASONS = {"rejected": ("rejected_reason",)}
SHOWN = 20
"""Findings that are spelled out; the rest are counted."""


@dataclass
class Verification:
    """What was checked, and what was found wrong."""

    findings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    files: int = 0
    images: int = 0
    source_links: int = 0
    watermarks: int = 0

    @property
    def ok(self) -> bool:
        return not self.findings

    def expect(self, true: bool, finding: str) -> None:
        if not true:
            self.findings.append(finding)


def read_manifest(store: Store) -> Manifest:
    """Return a data set's manifest.

    Raises:
        InputError: there is none, or it is not one.
    """
    try:
        return Manifest.model_validate_json(store.read(MANIFEST))
    except FileNotFoundError:
        raise InputError(f"{store.uri}: no {MANIFEST} here; is this a Palimpsest data set?") from None
    except ValueError as error:
        raise InputError(f"{store.uri}/{MANIFEST}: not a manifest: {str(error).splitlines()[0]}") from None


def verify_dataset(store: Store, key: bytes | None = None) -> Verification:
    """Check a whole data set, its marks with their key.

    Raises:
        InputError: there is no data set, or it was marked with another key.
    """
    found = Verification()
    manifest = read_manifest(store)
    marks = _marks(store, manifest, key, found)
    try:
        markers = read_markers(store)
    except ValueError as error:
        found.findings.append(f"_commits: a marker cannot be read: {str(error).splitlines()[0]}")
        return found
    _check_accounts(store, manifest, markers, found)
    seen: set[str] = set()
    links: dict[str, dict[int, str]] = {}
    for name in sorted(markers):
        _check_unit(store, manifest, markers[name], seen, links, marks, found)
    _check_artifacts(store, manifest, found)
    _check_sources(manifest, links, found)
    return found


def _marks(store: Store, manifest: Manifest, key: bytes | None, found: Verification) -> "Marks | None":
    if manifest.watermark is None:
        found.notes.append("watermarks were not checked: the data set was made with `watermark: none`")
        return None
    if key is None:
        found.notes.append("watermarks were not checked: no key (--key-file or PALIMPSEST_KEY)")
        return None
    if key_id(key) != manifest.watermark["key_id"]:
        raise InputError(f"{store.uri}: marked with key {manifest.watermark['key_id']}, and this is key {key_id(key)}")
    return Marks(key, manifest.watermark["psnr_db"])


class Marks:
    """Reads marks back from stored images, and compares them with what their sample ids demand."""

    def __init__(self, key: bytes, psnr_db: float) -> None:
        from pipeline.watermark.stdm import Stdm

        self._key = key
        self._stdm = Stdm(key, psnr_db)

    def check(self, rows: list[dict[str, Any]], folder: str, found: Verification) -> None:
        """Check the marks of some rows of `data/` or `rejected/`."""
        by_shape: dict[tuple[int, ...], list[tuple[str, Pixels]]] = {}
        for row in rows:
            name = row["sample_id"]
            if folder == "data" or row["watermarks"]:
                found.expect(len(row["watermarks"]) == 1, f"sample {name}: {len(row['watermarks'])} marks recorded")
            for mark in row["watermarks"]:
                word = to_text(payload(self._key, name))
                found.expect(mark["payload"] == word, f"sample {name}: the recorded payload is not that of its id")
                if mark["verified"]:
                    pixels = decode(row["image"]["bytes"], 2**31)
                    by_shape.setdefault(pixels.shape, []).append((name, pixels))
        for images in by_shape.values():
            readings = self._stdm.read(np.stack([pixels for _, pixels in images]))
            for (name, _), reading in zip(images, readings, strict=True):
                found.watermarks += 1
                found.expect(reading.payload == payload(self._key, name), f"sample {name}: its mark does not read back")


def _check_accounts(store: Store, manifest: Manifest, markers: Mapping[str, Marker], found: Verification) -> None:
    found.expect(manifest.complete, f"the manifest says incomplete: {len(markers)} of {manifest.units} units are there")
    found.expect(
        not manifest.complete or len(markers) == manifest.units,
        f"{manifest.units} units planned, {len(markers)} markers found",
    )
    found.expect(
        markers_digest(markers) == manifest.markers["sha256"], "the markers are not those the manifest was written for"
    )
    found.expect(
        count(markers.values()) == manifest.counts, "the counts in the manifest are not the sum of the markers"
    )
    named = {file.path for marker in markers.values() for file in marker.files.values()}
    for path in (path for folder in FOLDERS for path in store.list(folder)):
        found.expect(path in named, f"{path}: no marker names this file")


def _check_unit(
    store: Store,
    manifest: Manifest,
    marker: Marker,
    seen: set[str],
    links: dict[str, dict[int, str]],
    marks: "Marks | None",
    found: Verification,
) -> None:
    account = Account(marker, branch_from(_chain(manifest, marker)), manifest.recipe["seed"])
    ended = marker.accepted + marker.rejected + marker.quarantined * marker.copies
    found.expect(
        ended == marker.selected * marker.copies,
        f"unit {marker.unit}: {marker.selected * marker.copies} images asked for, {ended} accounted for",
    )
    whole = True
    rows = {"data": marker.accepted, "rejected": marker.rejected + marker.remade, "quarantine": marker.quarantined}
    for folder, expected in rows.items():
        file = marker.files.get(folder)
        found.expect(
            (file.rows if file else 0) == expected, f"unit {marker.unit}: {folder}/ should hold {expected} rows"
        )
        data = _read_file(store, file, found) if file else None
        whole = whole and (file is None) == (data is None)
        if data is not None and folder != "quarantine":
            for group in _row_groups(data, (*COLUMNS, *REASONS.get(folder, ()))):
                for row in group:
                    _check_row(manifest, marker, row, seen, links, account, found)
                if marks is not None and marker.branch != ORIGINAL:
                    marks.check(group, folder, found)
    if whole:
        found.findings.extend(account.findings())


def _chain(manifest: Manifest, marker: Marker) -> dict[str, Any]:
    for chain in manifest.chains:
        if chain["name"] == marker.branch:
            return chain
    raise InputError(f"unit {marker.unit}: the manifest has no branch {marker.branch!r}; it belongs to another run")


def _read_file(store: Store, file: FileRecord, found: Verification) -> bytes | None:
    found.files += 1
    try:
        data = store.read(file.path)
    except FileNotFoundError:
        found.findings.append(f"{file.path}: the file is missing")
        return None
    if hashlib.sha256(data).hexdigest() == file.sha256:
        return data
    found.findings.append(f"{file.path}: sha256 is not the committed one")
    return None


def _row_groups(data: bytes, columns: tuple[str, ...]) -> Iterator[list[dict[str, Any]]]:
    file = pq.ParquetFile(io.BytesIO(data))
    for group in range(file.num_row_groups):
        yield file.read_row_group(group, columns=list(columns)).to_pylist()


def _check_row(
    manifest: Manifest,
    marker: Marker,
    row: Mapping[str, Any],
    seen: set[str],
    links: dict[str, dict[int, str]],
    account: Account,
    found: Verification,
) -> None:
    found.images += 1
    name = row["sample_id"]
    found.expect(name not in seen, f"sample {name}: more than once")
    seen.add(name)
    found.expect(row["unit_digest"] == marker.digest, f"sample {name}: unit_digest is not its unit's")
    image = hashlib.sha256(row["image"]["bytes"] or b"").hexdigest()
    found.expect(image == row["image_sha256"], f"sample {name}: the image is not the one its sha256 names")
    place = account.place(row)
    found.expect(place is not None, f"sample {name}: does not follow from its seed and source")
    if place is not None:
        found.findings.extend(account.add(row, place))
    for index, step in enumerate(row["steps"]):
        found.expect(step["seed"] == step_seed(name, index), f"sample {name}: step {index} has another seed")
        found.expect(_is_json(step["params"]), f"sample {name}: step {index} params are not JSON")
    for partner in row["partners"]:
        known = partner["sha256"] in manifest.artifacts or partner["source_row"] is not None
        found.expect(known, f"sample {name}: partner {partner['sha256'][:12]} is not among the artifacts")
    if marker.shard is not None:
        inside = marker.first <= row["source_row"] < marker.first + marker.rows
        found.expect(inside, f"sample {name}: source_row {row['source_row']} is outside its unit")
        before = links.setdefault(marker.shard, {}).setdefault(row["source_row"], row["source_sha256"])
        found.expect(before == row["source_sha256"], f"sample {name}: source_sha256 differs from another copy's")
        if row["branch"] == ORIGINAL:
            found.expect(image == row["source_sha256"], f"sample {name}: the original is not its source, byte for byte")


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _check_artifacts(store: Store, manifest: Manifest, found: Verification) -> None:
    for sha256 in manifest.artifacts:
        try:
            data = store.read(f"_artifacts/{sha256}")
        except FileNotFoundError:
            found.findings.append(f"_artifacts/{sha256}: the file is missing")
            continue
        found.expect(
            hashlib.sha256(data).hexdigest() == sha256, f"_artifacts/{sha256}: content does not match its name"
        )


def _check_sources(manifest: Manifest, links: Mapping[str, Mapping[int, str]], found: Verification) -> None:
    """Read the source rows again where the shards can still be reached, and compare their sha256."""
    recipe = Recipe.model_validate(manifest.recipe)
    records = {record.path: record for record in manifest.shards}
    for path, expected in sorted(links.items()):
        record = records.get(path)
        if record is None:
            found.findings.append(f"shard {path}: rows were made from it, and the manifest does not list it")
            continue
        try:
            (shard,) = find_shards(record.uri, manifest.recipe_base)
            layout = read_layout((shard,), recipe.input.columns, recipe.input.drop)
        except PalimpsestError as error:
            found.notes.append(f"shard {path}: {len(expected)} source links were not checked: {error}")
            continue
        found.expect(shard.digest == record.digest, f"shard {path}: the source file has changed since the run")
        if shard.digest != record.digest:
            continue
        last = max(expected)
        for _, rows in read_windows(shard, layout, 0, last + 1, 256):
            for row in rows:
                if row.row in expected:
                    found.source_links += 1
                    same = hashlib.sha256(row.data or b"").hexdigest() == expected[row.row]
                    found.expect(same, f"shard {path} row {row.row}: the source bytes are not those the lineage names")
