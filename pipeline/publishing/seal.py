"""The seal of a data set: an HMAC with the watermark key over its commit records and every published file.

Whoever changes a file can also change its checksum, but cannot make the seal without the key. It covers the recipe and
the versions in the manifest, drawn parameters, the order of rows, the user's own columns and the texts beside the data.
A further run seals what it made itself and keeps earlier entries, so a file that was changed meanwhile stays a finding
of `verify`. Whoever holds the key can make any seal, so it proves nothing to others.
"""

import hashlib
import hmac
import logging
from collections.abc import Collection, Iterator, Mapping

from pipeline.errors import InputError
from pipeline.seeding import canonical_json
from pipeline.shards.output.commit import COMMITS, FOLDERS, INDEX, marker_path
from pipeline.shards.output.store import Store
from pipeline.watermark_key import derived_key, key_id
from schemas.manifest import UnitRecord
from schemas.seal import Seal

_log = logging.getLogger(__name__)

SEAL = "provenance/seal.json"
PURPOSE = "seal/1"
ARTIFACTS = "_artifacts"
_FILES = ("manifest.json", "README.md", "croissant.json", "openlineage.jsonl", "report/index.html", INDEX)
_FOLDERS = (ARTIFACTS, "_failed")
_NOT_SEALED = (*(f"{folder}/" for folder in FOLDERS), "_tmp/", ".git/", ".cache/")
"""Not sealed by themselves: data files, whose commit records are, and files of a run, Git and Hugging Face's client."""
_IGNORED_FILES = (".gitattributes", ".DS_Store")
"""Files that Git and macOS add to a folder."""
_TIMES = {"seconds", "busy_s"}
_DIGITS = 32


def seal_dataset(store: Store, markers: Mapping[str, UnitRecord], key: bytes, earlier: Collection[str] = ()) -> None:
    """Seal a data set as it is now.

    Args:
        earlier: units that were there before this run; one that differs from its sealed record is logged as a warning,
            and keeps its old entry.
    """
    commits, before = _commits(markers), read_seal(store)
    if before is not None and not (before.key_id == key_id(key) and _is_made_with(key, before)):
        _log.warning(
            "%s was not made with this key: what was there is sealed as it is now, whatever it was before", SEAL
        )
    elif before is not None:
        for unit in sorted({*earlier} & {*commits} & {*before.commits}):
            if not _same(commits[unit], before.commits[unit]):
                commits[unit] = before.commits[unit]
                _log.warning(
                    "%s: not the record that was sealed, so `palimpsest verify` will name it; remove it, and the same "
                    "command makes its unit again", marker_path(unit),
                )  # fmt: skip
    paths = [path for path in _FILES if store.exists(path)]
    paths += [path for folder in _FOLDERS for path in store.list(folder)]
    files = {path: _sha256(store, path) for path in paths}
    _write(store, Seal(key_id=key_id(key), commits=commits, files=files), key)


def seal_file(store: Store, path: str, key: bytes) -> None:
    """Seal a file that was written again, where the seal was made with this key.

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
    """Whether a file is as it was sealed; True where there is no seal."""
    seal = read_seal(store)
    return seal is None or seal.files.get(path) == _sha256(store, path)


def seal_findings(store: Store, markers: Mapping[str, UnitRecord], key: bytes, marked: bool) -> Iterator[str]:
    """Yield every difference from the seal, as text; nothing where there is no seal.

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
        if not _same(commits.get(unit), seal.commits.get(unit)):
            state = "missing, and sealed" if unit not in commits else "not sealed"
            yield f"unit {unit}: its commit record is {'not the sealed one' if unit in seal.commits else state}"
    there = {path for path in store.list("") if _is_sealable(path)}
    for path in sorted({*there, *seal.files}):
        if path not in seal.files:
            yield f"{path}: not sealed, so not of the run; move it out of the data set"
        elif path not in there:
            yield f"{path}: sealed, and the file is missing"
        elif seal.files[path] != _sha256(store, path):
            yield f"{path}: not the sealed one"


def _commits(markers: Mapping[str, UnitRecord]) -> dict[str, str]:
    """Return a digest of each commit record by unit, without its times and without fields at their defaults."""
    found = {}
    for unit, marker in sorted(markers.items()):
        record = canonical_json(marker.model_dump(mode="json", exclude=_TIMES, exclude_defaults=True))
        found[unit] = hashlib.sha256(record.encode()).hexdigest()[:_DIGITS]
    return found


def is_sha256(name: str) -> bool:
    """Whether the name of an artifact is the sha256 of its content; records of fits are named by their inputs."""
    return len(name) == 64 and set(name) <= set("0123456789abcdef")


def _is_sealable(path: str) -> bool:
    """Whether a file in a data set has to be named by the seal itself."""
    is_record = path.startswith(f"{COMMITS}/") and path.endswith(".json")
    return not (is_record or path == SEAL or path in _IGNORED_FILES or path.startswith(_NOT_SEALED))


def _same(digest: str | None, sealed: str | None) -> bool:
    """Whether a record's digest is the sealed one, which is shorter in the first seals."""
    return sealed == (digest[: len(sealed)] if digest and sealed else digest)


def _sha256(store: Store, path: str) -> str:
    name = path.removeprefix(f"{ARTIFACTS}/")
    if name != path and is_sha256(name):  # `verify` compares it with its content
        return name
    try:
        return hashlib.sha256(store.read(path)).hexdigest()
    except FileNotFoundError:
        return ""


def _write(store: Store, seal: Seal, key: bytes) -> None:
    signed = seal.model_copy(update={"hmac": _hmac(key, seal)})
    store.write(SEAL, signed.model_dump_json(indent=1).encode())


def _is_made_with(key: bytes, seal: Seal) -> bool:
    return hmac.compare_digest(seal.hmac.encode(), _hmac(key, seal).encode())


def _hmac(key: bytes, seal: Seal) -> str:
    content = canonical_json(seal.model_dump(mode="json", exclude={"hmac"}))
    return hmac.new(derived_key(key, PURPOSE), content.encode(), hashlib.sha256).hexdigest()
