"""`verify`: compute every checksum, count and lineage link of a data set again, and report what differs."""

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.audit.check_tasks import TaskRunner, UnitChecker, check_tasks
from pipeline.audit.log_checks import Drawing, LoggedUnits, PlanOrder, read_log
from pipeline.audit.manifest_checks import manifest_findings
from pipeline.audit.verification import SHOWN, Verification
from pipeline.audit.watermark_checks import WatermarkChecks, checks_for
from pipeline.errors import InputError
from pipeline.publishing.manifest import read_manifest
from pipeline.publishing.pending_seal import pending_segments
from pipeline.publishing.seal import ARTIFACTS, SEAL, is_sha256, seal_findings
from pipeline.shards.output.commit_log import CommitLog
from pipeline.shards.output.data_files import DataFiles
from pipeline.shards.output.store import Store
from schemas.manifest import Manifest

__all__ = ["SHOWN", "Scope", "Verification", "read_manifest", "verify_dataset"]

_CHUNK = 8 << 20


@dataclass(frozen=True)
class Scope:
    """How much is read: everything, or a share in (0, 1] of the units, drawn by a seed (None: by chance).

    The manifest, the commit log, the names and sizes of all files, artifacts and the seal are always checked.
    """

    share: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise InputError(f"a sample of {self.share:g}: it must be above 0 and at most 1")


Runners = Callable[[Manifest, WatermarkChecks | None], TaskRunner]
"""Gives what checks the units of a data set; by default this process does."""


def verify_dataset(
    store: Store, key: bytes | None = None, scope: Scope | None = None, runners: Runners | None = None
) -> Verification:
    """Check a data set; marks and seal are checked where their key is given.

    Memory is bounded: about 100 bytes a unit, and what a few units need.

    Raises:
        InputError: there is no data set, or it was marked with another key.
    """
    scope, found = scope or Scope(), Verification()
    manifest = read_manifest(store)
    marks = checks_for(store, manifest, key, found)
    drawing = Drawing(scope.share, secrets.randbelow(2**32) if scope.seed is None else scope.seed)
    try:
        log, files = CommitLog(store), DataFiles(store)
        units = read_log(manifest, log, files, drawing, found)
    except InputError as error:
        found.add(str(error))
        return found
    found.extend(manifest_findings(manifest, log, PlanOrder(manifest, units)))
    found.extend(f"{path}: no record names this file" for path in files.unnamed())
    runner = UnitChecker(store, manifest, marks).run if runners is None else runners(manifest, marks)
    for part in runner(check_tasks(manifest, log, units)):
        found.include(part)
    _check_artifacts(store, manifest, found)
    _check_segments(store, log, found)
    _check_seal(store, manifest, key, found)
    if scope.share < 1:
        found.notes.append(_sample_note(units, drawing))
    found.close()
    return found


def _sample_note(units: LoggedUnits, drawing: Drawing) -> str:
    chosen = int(units.chosen.sum())
    return (
        f"{chosen:,} of {len(units):,} units were read, drawn by seed {drawing.seed}; of the others the records, names "
        "and sizes of files were checked, and not bytes, rows, marks and sources"
    )


def _check_segments(store: Store, log: CommitLog, found: Verification) -> None:
    for segment in log.segments:
        found.expect(
            _sha256(store, segment.path) == segment.sha256,
            f"{segment.path}: its content does not match its name; remove it and run again: "
            "its units are taken up from their files",
        )


def _sha256(store: Store, path: str) -> str:
    made = hashlib.sha256()
    with store.open(path) as stream:
        while chunk := stream.read(_CHUNK):
            made.update(chunk)
    return made.hexdigest()


def _check_seal(store: Store, manifest: Manifest, key: bytes | None, found: Verification) -> None:
    """Check the seal; without it, a changed file with a matching new checksum would not be found."""
    unguarded = "recipe, versions, drawn values, own columns and texts are guarded by checksums alone"
    there = store.exists(SEAL)
    if key is None:
        found.notes.append(f"the seal was not checked: no key; {unguarded}" if there else f"no seal: {unguarded}")
    elif there:
        found.extend(seal_findings(store, key, manifest.watermark is not None, pending_segments(store, key)))
        found.sealed = not any(SEAL in finding for finding in found.findings)
    elif found.clear:
        found.notes.append(f"no seal: the data set was made by an earlier version; {unguarded}")
    else:
        found.add(
            f"{SEAL}: there is none: it was removed, or the run had no key, or was of an earlier version, whose data "
            f"sets without marks are verified without a key; {unguarded}"
        )


def _check_artifacts(store: Store, manifest: Manifest, found: Verification) -> None:
    there = {path.removeprefix(f"{ARTIFACTS}/") for path in store.list(ARTIFACTS)}
    for sha256 in sorted({*manifest.artifacts, *filter(is_sha256, there)}):
        path = f"{ARTIFACTS}/{sha256}"
        if sha256 not in there:
            found.add(f"{path}: the file is missing")
            continue
        found.expect(_sha256(store, path) == sha256, f"{path}: content does not match its name")
