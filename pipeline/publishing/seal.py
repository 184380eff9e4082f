"""The seal of a data set: an HMAC with the watermark key over its commit records and every published file.

Checksums alone are mended by whoever changes what they are of. The seal is not, without the key: recipe and versions in
the manifest, drawn parameters, the order of rows, the user's own columns and the texts beside the data are those of the
run that made it. Whoever holds the key can make any seal: it proves nothing to others.
"""

import hashlib
import hmac
import logging
from collections.abc import Iterator, Mapping

from pipeline.errors import InputError
from pipeline.keys import derived_key, key_id
from pipeline.seeding import canonical_json
from pipeline.shards.output.commit import INDEX, marker_path
from pipeline.shards.output.store import Store
from schemas.manifest import Marker
from schemas.seal import Seal

_log = logging.getLogger(__name__)

SEAL = "provenance/seal.json"
PURPOSE = "seal/1"
FILES = ("manifest.json", "README.md", "croissant.json", "openlineage.jsonl", "evaluation.json", INDEX)
FOLDERS = ("report", "provenance", "_artifacts")
_TIMES = {"seconds", "busy_s"}
_DIGITS = 16


def seal_dataset(store: Store, markers: Mapping[str, Marker], key: bytes) -> None:
    """Seal a data set as it is now; a record that differs from the one sealed before is a warning."""
    before = read_seal(store)
    if before is not None and before.key_id == key_id(key) and _is_made_with(key, before):
        for unit, digest in _commits(markers).items():
            if before.commits.get(unit, digest) != digest:
                _log.warning("%s: not the record that was sealed before; `palimpsest verify` it", marker_path(unit))
    files = {path: _sha256(store, path) for path in published(store)}
    _write(store, Seal(key_id=key_id(key), commits=_commits(markers), files=files), key)


def seal_file(store: Store, path: str, key: bytes) -> None:
    """Take a file that was written again into the seal, which must hold.

    Raises:
        InputError: there is no seal, or it was not made with this key.
    """
    seal = read_seal(store)
    if seal is None or seal.key_id != key_id(key) or not _is_made_with(key, seal):
        raise InputError(f"{store.uri}/{SEAL}: not a seal of this key; see `palimpsest verify`")
    _write(store, seal.model_copy(update={"files": {**seal.files, path: _sha256(store, path)}}), key)


def read_seal(store: Store) -> Seal | None:
    """Return the seal of a data set; None where it has none that can be read."""
    try:
        return Seal.model_validate_json(store.read(SEAL))
    except (FileNotFoundError, ValueError):
        return None


def is_sealed(store: Store, path: str) -> bool:
    """Return whether a file is the one that the seal names; True where there is no seal."""
    seal = read_seal(store)
    return seal is None or seal.files.get(path) == _sha256(store, path)


def published(store: Store) -> list[str]:
    """Return the paths of every published file beside data files, commit records and the seal."""
    found = [path for path in FILES if store.exists(path)]
    return found + [path for folder in FOLDERS for path in store.list(folder) if path != SEAL]


def seal_findings(store: Store, markers: Mapping[str, Marker], key: bytes, marked: bool) -> Iterator[str]:
    """Yield what is not as it was sealed; nothing where there is no seal at all.

    Args:
        marked: the images are marked with this key, so a seal of another one is a finding.

    Raises:
        InputError: it was sealed with another key, and nothing says that this one is the run's.
    """
    if not store.exists(SEAL):
        return
    seal = read_seal(store)
    if seal is None:
        yield f"{SEAL}: not a seal that can be read"
        return
    if seal.key_id != key_id(key) and marked:
        yield f"{SEAL}: of key {seal.key_id}, and the images are marked with {key_id(key)}"
        return
    if seal.key_id != key_id(key):
        raise InputError(f"{store.uri}: sealed with key {seal.key_id}, and this is key {key_id(key)}")
    if not _is_made_with(key, seal):
        yield f"{SEAL}: was not made with this key"
        return
    commits = _commits(markers)
    for unit in sorted({*commits, *seal.commits}):
        if commits.get(unit) != seal.commits.get(unit):
            state = "missing, and sealed" if unit not in commits else "not sealed"
            yield f"unit {unit}: its commit record is {'not the sealed one' if unit in seal.commits else state}"
    there = published(store)
    for path in sorted({*there, *seal.files}):
        if path not in seal.files:
            yield f"{path}: not sealed"
        elif path not in there:
            yield f"{path}: sealed, and the file is missing"
        elif seal.files[path] != _sha256(store, path):
            yield f"{path}: not the sealed one"


def _commits(markers: Mapping[str, Marker]) -> dict[str, str]:
    """Return a digest of each commit record; what a unit took does not count, nor does what a field is by default."""
    found = {}
    for unit, marker in sorted(markers.items()):
        record = canonical_json(marker.model_dump(mode="json", exclude=_TIMES, exclude_defaults=True))
        found[unit] = hashlib.sha256(record.encode()).hexdigest()[:_DIGITS]
    return found


def _sha256(store: Store, path: str) -> str:
    name = path.removeprefix("_artifacts/")
    if name != path and len(name) == 64:  # named by its sha256, which `verify` compares with its content
        return name
    try:
        return hashlib.sha256(store.read(path)).hexdigest()
    except FileNotFoundError:
        return ""


def _write(store: Store, seal: Seal, key: bytes) -> None:
    whole = seal.model_copy(update={"hmac": _hmac(key, seal)})
    store.write(SEAL, whole.model_dump_json(indent=1).encode())


def _is_made_with(key: bytes, seal: Seal) -> bool:
    return hmac.compare_digest(seal.hmac, _hmac(key, seal))


def _hmac(key: bytes, seal: Seal) -> str:
    said = canonical_json(seal.model_dump(mode="json", exclude={"hmac"}))
    return hmac.new(derived_key(key, PURPOSE), said.encode(), hashlib.sha256).hexdigest()
