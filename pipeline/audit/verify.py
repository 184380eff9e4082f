"""`verify`: recompute every checksum, count and lineage link of a data set. Trusts nothing that it can compute."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.audit.attempt_accounting import AttemptAccounting
from pipeline.audit.lineage_checks import LineageChecks, class_findings, columns_read, schema_findings
from pipeline.audit.manifest_checks import index_findings, manifest_findings, marker_findings
from pipeline.audit.source_checks import Origins
from pipeline.contracts import Pixels
from pipeline.errors import InputError, PalimpsestError, RowError
from pipeline.messages import error_line
from pipeline.plan import ORIGINAL, BranchPlan
from pipeline.publishing.manifest import branch_from, read_manifest
from pipeline.publishing.seal import ARTIFACTS, SEAL, is_sha256, seal_findings
from pipeline.shards.images.codecs import decode
from pipeline.shards.output.commit import FOLDERS, open_parquet, read_index, read_markers
from pipeline.shards.output.store import Store
from pipeline.watermark.payload import is_clear, payload, stands_for
from pipeline.watermark_key import key_id
from schemas.manifest import FileRecord, Manifest, Marker

__all__ = ["SHOWN", "Verification", "read_manifest", "verify_dataset"]

SHOWN = 20
"""Findings that are spelled out; the rest are counted."""

MALFORMED = (TypeError, KeyError, AttributeError, ValueError, PalimpsestError)
"""What a forged record raises where it lacks what every record has."""


@dataclass
class Verification:
    """What was checked, and what was found wrong."""

    findings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    files: int = 0
    images: int = 0
    source_links: int = 0
    watermarks: int = 0
    sealed: bool = False  # and the seal was checked
    clear: int = 0  # recorded payloads of the form of versions that made no seals

    @property
    def ok(self) -> bool:
        return not self.findings

    def expect(self, true: bool, finding: str) -> None:
        if not true:
            self.findings.append(finding)


def verify_dataset(store: Store, key: bytes | None = None) -> Verification:
    """Check a whole data set, its marks with their key.

    Raises:
        InputError: there is no data set, or it was marked with another key.
    """
    found = Verification()
    manifest = read_manifest(store)
    marks = _marks(store, manifest, key, found)
    try:
        markers = read_markers(store, indexed=False)
        found.findings.extend(index_findings(read_index(store), markers))
    except InputError as error:
        found.findings.append(str(error))
        return found
    found.findings.extend(manifest_findings(manifest, markers))
    named = {file.path for marker in markers.values() for file in marker.files.values()}
    for path in (path for folder in FOLDERS for path in store.list(folder)):
        found.expect(path in named, f"{path}: no marker names this file")
    seen: set[str] = set()
    origins = Origins()
    for name in sorted(markers):
        branch = _branch(manifest, markers[name], found)
        if branch is not None:
            _UnitCheck(store, manifest, markers[name], branch, seen, origins, marks, found).run(name)
    _check_artifacts(store, manifest, found)
    found.findings.extend(origins.findings(manifest))
    found.source_links, found.notes = origins.read, found.notes + origins.notes
    _check_seal(store, manifest, markers, key, found)
    return found


def _check_seal(
    store: Store, manifest: Manifest, markers: Mapping[str, Marker], key: bytes | None, found: Verification
) -> None:
    """Check the seal. Without it, what no checksum guards may have been changed by whoever mended the checksums."""
    unguarded = "recipe, versions, drawn values, own columns and texts are guarded by checksums alone"
    there = store.exists(SEAL)
    if key is None:
        found.notes.append(f"the seal was not checked: no key; {unguarded}" if there else f"no seal: {unguarded}")
    elif there:
        found.findings.extend(seal_findings(store, markers, key, marked=manifest.watermark is not None))
        found.sealed = not any(SEAL in finding for finding in found.findings)
    elif found.clear:
        found.notes.append(f"no seal: the data set was made by an earlier version; {unguarded}")
    else:
        found.findings.append(
            f"{SEAL}: there is none: it was removed, or the run had no key, or was of an earlier version, whose data "
            f"sets without marks are verified without a key; {unguarded}"
        )


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

    def check(self, rows: list[dict[str, Any]], images: Mapping[str, Pixels], found: Verification) -> None:
        """Check the recorded marks of some rows against their images [H, W, C] uint8, by sample id."""
        by_shape: dict[tuple[int, ...], list[str]] = {}
        for row in rows:
            name = row["sample_id"]
            for mark in row["watermarks"]:
                said = str(mark["payload"])
                own = stands_for(self._key, said, payload(self._key, name))
                found.expect(own, f"sample {name}: the recorded payload is not that of its id")
                found.clear += own and is_clear(said)
                if mark["verified"] and name in images:
                    by_shape.setdefault(images[name].shape, []).append(name)
        for names in by_shape.values():
            readings = self._stdm.read(np.stack([images[name] for name in names]))
            for name, reading in zip(names, readings, strict=True):
                found.watermarks += 1
                found.expect(reading.payload == payload(self._key, name), f"sample {name}: its mark does not read back")


def _branch(manifest: Manifest, marker: Marker, found: Verification) -> BranchPlan | None:
    """Return a unit's branch as the manifest has it; None, and a finding, where it has none that can be read."""
    for chain in manifest.chains:
        if chain.get("name") == marker.branch:
            try:
                return branch_from(chain)
            except InputError as error:
                found.findings.append(str(error))
                return None
    found.findings.append(f"unit {marker.unit}: the manifest has no branch {marker.branch!r}")
    return None


@dataclass
class _UnitCheck:
    """One unit's marker, files and rows."""

    store: Store
    manifest: Manifest
    marker: Marker
    branch: BranchPlan
    seen: set[str]
    origins: Origins
    marks: Marks | None
    found: Verification
    turns: dict[str, tuple[int, ...]] = field(default_factory=dict)  # of the last row in each folder

    def run(self, name: str) -> None:
        marker, found = self.marker, self.found
        found.findings.extend(marker_findings(self.manifest, name, marker, self.branch.copies, self.branch.where))
        try:
            account = AttemptAccounting(marker, self.branch, self.manifest.recipe["seed"])
        except MALFORMED as error:
            found.findings.append(f"branch {marker.branch}: its gates in the manifest cannot be read: {error!r}")
            return
        lineage_checks = LineageChecks(self.manifest, marker, self.branch)
        rows = {
            "data": marker.accepted,
            "rejected": marker.rejected + marker.retried,
            "quarantine": marker.quarantined,
        }
        whole = True
        for folder, expected in rows.items():
            file = marker.files.get(folder)
            stated = file.rows if file else 0
            found.expect(stated == expected, f"unit {marker.unit}: {folder}/ should hold {expected} rows")
            count = self._file(file, folder, account, lineage_checks) if file else 0
            if count is None:
                whole = False
            else:
                message = f"unit {marker.unit}: {folder}/ holds {count} rows, and its marker says {expected}"
                found.expect(count == expected, message)
        if whole:
            found.findings.extend(account.findings())

    def _file(
        self, file: FileRecord, folder: str, account: AttemptAccounting, lineage_checks: LineageChecks
    ) -> int | None:
        """Check a file's bytes, columns and rows; return how many rows it holds, None where they cannot be read."""
        data = _read_file(self.store, file, self.found)
        if data is None:
            return None
        count = 0
        try:
            parquet = open_parquet(data)
            wrong = list(schema_findings(file.path, folder, parquet.schema_arrow))
            self.found.findings.extend(wrong)
            if wrong:
                return None
            self.found.findings.extend(class_findings(file.path, parquet.schema_arrow, self.manifest))
            if folder == "data" and self.marker.shard is not None:
                self.origins.columns.setdefault(self.marker.shard, parquet.schema_arrow.names)
            for group in _row_groups(parquet, columns_read(folder, parquet.schema_arrow.names)):
                count += len(group)
                self._rows(group, folder, account, lineage_checks)
        except (pa.ArrowException, OSError, ValueError) as error:
            self.found.findings.append(f"{file.path}: not a Parquet file that can be read: {error_line(error)}")
            return None
        return count

    def _rows(
        self, group: list[dict[str, Any]], folder: str, account: AttemptAccounting, lineage_checks: LineageChecks
    ) -> None:
        sound: list[dict[str, Any]] = []
        images: dict[str, Pixels] = {}
        for row in group:
            try:
                if folder == "quarantine":
                    self._quarantined(row, account, lineage_checks)
                    continue
                self._row(row, folder, account, lineage_checks)
                if self.marker.branch != ORIGINAL:
                    images[row["sample_id"]] = decode(row["image"]["bytes"], 2**31)
                    sound.append(row)
            except RowError as error:
                self.found.findings.append(f"sample {row['sample_id']}: its image cannot be decoded: {error}")
            except MALFORMED as error:
                name = row.get("sample_id") or f"of unit {self.marker.unit}"
                self.found.findings.append(f"sample {name}: its row in {folder}/ is malformed: {error_line(error)}")
        if self.marks is not None and sound:
            self.marks.check(sound, images, self.found)

    def _row(self, row: dict[str, Any], folder: str, account: AttemptAccounting, lineage_checks: LineageChecks) -> None:
        found, name = self.found, row["sample_id"]
        found.images += 1
        if not isinstance(name, str):
            raise ValueError("it has no sample_id")
        found.expect(name not in self.seen, f"sample {name}: more than once")
        self.seen.add(name)
        found.findings.extend(lineage_checks.findings(row, folder))
        place = account.place(row)
        found.expect(place is not None, f"sample {name}: does not follow from its seed and source")
        if place is not None:
            found.findings.extend(account.add(row, place))
            turn = (*place, row["attempt"])
            found.expect(turn > self.turns.get(folder, (-1,)), f"sample {name}: not in the order rows are made in")
            self.turns[folder] = turn
        if self.marker.shard is not None:
            mixed = lineage_checks.mixes and row["soft_label"] is not None
            found.findings.extend(self.origins.add(self.marker.shard, row, mixed))

    def _quarantined(self, row: dict[str, Any], account: AttemptAccounting, lineage_checks: LineageChecks) -> None:
        self.found.findings.extend(lineage_checks.quarantined(row))
        self.found.findings.extend(account.quarantine(row["source_row"], row["error_code"]))
        if self.marker.shard is not None:
            self.found.findings.extend(self.origins.add_quarantined(self.marker.shard, row))


def _read_file(store: Store, file: FileRecord, found: Verification) -> bytes | None:
    found.files += 1
    try:
        data = store.read(file.path)
    except FileNotFoundError:
        found.findings.append(f"{file.path}: the file is missing")
        return None
    if hashlib.sha256(data).hexdigest() == file.sha256:
        found.expect(len(data) == file.bytes, f"{file.path}: {len(data)} bytes, and its marker says {file.bytes}")
        return data
    found.findings.append(f"{file.path}: sha256 is not the committed one")
    return None


def _row_groups(file: pq.ParquetFile, columns: list[str]) -> Iterator[list[dict[str, Any]]]:
    for group in range(file.num_row_groups):
        yield file.read_row_group(group, columns=columns).to_pylist()


def _check_artifacts(store: Store, manifest: Manifest, found: Verification) -> None:
    there = {path.removeprefix(f"{ARTIFACTS}/") for path in store.list(ARTIFACTS)}
    for sha256 in sorted({*manifest.artifacts, *filter(is_sha256, there)}):
        path = f"{ARTIFACTS}/{sha256}"
        if sha256 not in there:
            found.findings.append(f"{path}: the file is missing")
            continue
        data = store.read(path)
        found.expect(hashlib.sha256(data).hexdigest() == sha256, f"{path}: content does not match its name")
