"""`verify`: compute every checksum, count and lineage link of a data set again, and report what differs."""

import hashlib

from pipeline.audit.manifest_checks import manifest_findings
from pipeline.audit.source_checks import SourceChecks
from pipeline.audit.unit_checks import UnitChecks, branch_of
from pipeline.audit.verification import SHOWN, Verification
from pipeline.audit.watermark_checks import checks_for
from pipeline.errors import InputError
from pipeline.publishing.manifest import read_manifest
from pipeline.publishing.seal import ARTIFACTS, SEAL, is_sha256, seal_findings
from pipeline.shards.output.commit_log import CommitLog
from pipeline.shards.output.segments import FOLDERS
from pipeline.shards.output.store import Store
from schemas.manifest import Manifest

__all__ = ["SHOWN", "Verification", "read_manifest", "verify_dataset"]


def verify_dataset(store: Store, key: bytes | None = None) -> Verification:
    """Check a whole data set; marks and seal are checked where their key is given.

    Raises:
        InputError: there is no data set, or it was marked with another key.
    """
    found = Verification()
    manifest = read_manifest(store)
    marks = checks_for(store, manifest, key, found)
    try:
        log = CommitLog(store)
        records = {record.unit: record for record in log.records()}
    except InputError as error:
        found.findings.append(str(error))
        return found
    found.findings.extend(manifest_findings(manifest, records))
    named = {file.path for record in records.values() for file in record.files.values()}
    for path in (path for folder in FOLDERS for path in store.list(folder)):
        found.expect(path in named, f"{path}: no record names this file")
    seen: set[str] = set()
    source_checks = SourceChecks()
    for name in sorted(records):
        branch = branch_of(manifest, records[name], found)
        if branch is not None:
            UnitChecks(store, manifest, records[name], branch, seen, source_checks, marks, found).run(name)
    _check_artifacts(store, manifest, found)
    found.findings.extend(source_checks.findings(manifest))
    found.source_links, found.notes = source_checks.read, found.notes + source_checks.notes
    _check_segments(store, log, found)
    _check_seal(store, manifest, key, found)
    return found


def _check_segments(store: Store, log: CommitLog, found: Verification) -> None:
    for segment in log.segments:
        sha256 = hashlib.sha256(store.read(segment.path)).hexdigest()
        found.expect(sha256 == segment.sha256, f"{segment.path}: its content does not match its name")


def _check_seal(store: Store, manifest: Manifest, key: bytes | None, found: Verification) -> None:
    """Check the seal; without it, a changed file with a matching new checksum would not be found."""
    unguarded = "recipe, versions, drawn values, own columns and texts are guarded by checksums alone"
    there = store.exists(SEAL)
    if key is None:
        found.notes.append(f"the seal was not checked: no key; {unguarded}" if there else f"no seal: {unguarded}")
    elif there:
        found.findings.extend(seal_findings(store, key, marked=manifest.watermark is not None))
        found.sealed = not any(SEAL in finding for finding in found.findings)
    elif found.clear:
        found.notes.append(f"no seal: the data set was made by an earlier version; {unguarded}")
    else:
        found.findings.append(
            f"{SEAL}: there is none: it was removed, or the run had no key, or was of an earlier version, whose data "
            f"sets without marks are verified without a key; {unguarded}"
        )


def _check_artifacts(store: Store, manifest: Manifest, found: Verification) -> None:
    there = {path.removeprefix(f"{ARTIFACTS}/") for path in store.list(ARTIFACTS)}
    for sha256 in sorted({*manifest.artifacts, *filter(is_sha256, there)}):
        path = f"{ARTIFACTS}/{sha256}"
        if sha256 not in there:
            found.findings.append(f"{path}: the file is missing")
            continue
        data = store.read(path)
        found.expect(hashlib.sha256(data).hexdigest() == sha256, f"{path}: content does not match its name")
