"""The seal of a data set: an HMAC with the watermark key over its commit log and every published file.

Whoever changes a file can also change its checksum, but cannot make the seal without the key. It covers the segments of
the log by name, which is the sha256 of their bytes, and so every data file; recipe and versions in the manifest, drawn
parameters, the order of rows, the user's own columns and the texts beside the data. A further run seals what it
made itself: a segment that was sealed and is gone, or that says otherwise of a sealed unit, stays a finding of
`verify`. Whoever holds the key can make any seal, so it proves nothing to others.
"""

import hashlib
import hmac
import logging
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from pipeline.errors import InputError
from pipeline.seeding import canonical_json
from pipeline.shards.output.commit_log import COMMITS, Announce, CommitLog, tell_nobody
from pipeline.shards.output.segments import FOLDERS
from pipeline.shards.output.store import Store
from pipeline.watermark_key import derived_key, key_id
from schemas.seal import Seal

_log = logging.getLogger(__name__)

SEAL = "provenance/seal.json"
PENDING = "provenance/pending.json"
"""Segments that no seal covers yet; see `pipeline.publishing.pending_seal`."""
PURPOSE = "seal/2"
ARTIFACTS = "_artifacts"
_FILES = ("manifest.json", "README.md", "croissant.json", "openlineage.jsonl", "report/index.html")
_FOLDERS = (ARTIFACTS, "_failed")
_NOT_SEALED = (*(f"{folder}/" for folder in FOLDERS), "_tmp/", ".git/", ".cache/")
"""Not sealed by themselves: data files, which the log names, and files of a run, Git and Hugging Face's client."""
_IGNORED_FILES = (".gitattributes", ".DS_Store")
"""Files that Git and macOS add to a folder."""


@dataclass(frozen=True)
class SealedLog:
    """The segments that were sealed before a run, and those that the run, or one before it with the key, has written.

    `announce` is called with the path of each segment before it is written.
    """

    sealed: frozenset[str]
    own: Collection[str]
    announce: Announce = tell_nobody

    def suspicious(self, log: CommitLog) -> list[str]:
        """Return segments that are neither sealed nor of this run, and say otherwise of a unit that is sealed."""
        there = [segment.path for segment in log.segments]
        others = [path for path in there if path not in self.sealed and path not in self.own]
        found = log.contradictions(others, [path for path in there if path in self.sealed])
        for path in found:
            _log.warning(
                "%s: not sealed, and it says otherwise of sealed units, so `palimpsest verify` will name it; no run "
                "with this key has written it: remove it, and run again", path,
            )  # fmt: skip
        return found

    def missing(self, log: CommitLog, merged: Collection[str]) -> list[str]:
        """Return segments that were sealed, and that neither are there nor were merged by this run."""
        there = {segment.path for segment in log.segments} | {*merged}
        found = sorted(self.sealed - there)
        for path in found:
            _log.warning(
                "%s: sealed, and it is gone; `palimpsest verify` will name it. To have what is there sealed instead, "
                "remove %s and run again", path, SEAL,
            )  # fmt: skip
        return found


def sealed_log(store: Store, key: bytes, own: Collection[str], announce: Announce = tell_nobody) -> SealedLog:
    """Return what the seal says of the log; nothing where there is none of this key.

    Args:
        own: segments that this run, or one before it with this key, has written since.
        announce: adds to them.
    """
    before = read_seal(store)
    if before is None:
        return SealedLog(frozenset(), own, announce)
    if before.key_id != key_id(key) or not is_signed(key, before):
        _log.warning(
            "%s was not made with this key: what was there is sealed as it is now, whatever it was before", SEAL
        )
        return SealedLog(frozenset(), own, announce)
    return SealedLog(frozenset(path for path in before.files if path.startswith(f"{COMMITS}/")), own, announce)


def seal_dataset(store: Store, log: CommitLog, key: bytes, before: SealedLog) -> None:
    """Seal a data set as it is now, but for what contradicts the seal before.

    Args:
        log: as it was published, before the segments that it merged are removed.
        before: the seal before, read before the log was merged.
    """
    unsealed = {*before.suspicious(log)}
    paths = [path for path in _FILES if store.exists(path)]
    paths += [path for folder in _FOLDERS for path in store.list(folder)]
    paths += [segment.path for segment in log.segments if segment.path not in unsealed]
    paths += before.missing(log, log.merged)
    _write(store, Seal(key_id=key_id(key), files={path: _sha256(store, path) for path in paths}), key)


def seal_file(store: Store, path: str, key: bytes) -> None:
    """Seal a file that was written again, where the seal was made with this key.

    Raises:
        InputError: there is no seal, or it was not made with this key.
    """
    seal = read_seal(store)
    if seal is None or seal.key_id != key_id(key) or not is_signed(key, seal):
        raise InputError(f"{store.uri}/{SEAL}: not a seal of this key; see `palimpsest verify`")
    _write(store, seal.model_copy(update={"files": {**seal.files, path: _sha256(store, path)}}), key)


def read_seal(store: Store) -> Seal | None:
    """Return the seal of a data set; None where it has none that can be read."""
    try:
        return parse_seal(store.read(SEAL))
    except (FileNotFoundError, ValueError):
        return None


def parse_seal(data: bytes) -> Seal:
    """Return a seal of its bytes. Raises ValueError where it is none."""
    return Seal.model_validate_json(data)


def is_sealed(store: Store, path: str) -> bool:
    """Whether a file is as it was sealed; True where there is no seal."""
    seal = read_seal(store)
    return seal is None or seal.files.get(path) == _sha256(store, path)


def seal_findings(store: Store, key: bytes, marked: bool, pending: Collection[str] = ()) -> Iterator[str]:
    """Yield every difference from the seal, as text; nothing where there is no seal.

    Segments and artifacts are compared by name: whether their bytes are those is not looked at here.

    Args:
        marked: the images are marked with this key, so a seal of another one is a finding.
        pending: segments that runs with this key have written since.

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
    if not is_signed(key, seal):
        yield f"{SEAL}: was not made with this key"
        return
    there = {path for path, _ in store.scan("") if _is_sealable(path)}
    for path in sorted({*there, *seal.files}):
        if path not in seal.files and path in pending:
            yield f"{path}: not sealed yet: a run with this key wrote it and was ended; the next run seals it"
        elif path not in seal.files:
            yield f"{path}: not sealed, so not of the run; move it out of the data set"
        elif path not in there:
            yield f"{path}: sealed, and the file is missing"
        elif seal.files[path] != _sha256(store, path):
            yield f"{path}: not the sealed one"


def is_sha256(name: str) -> bool:
    """Whether the name of an artifact is the sha256 of its content; records of fits are named by their inputs."""
    return len(name) == 64 and set(name) <= set("0123456789abcdef")


def _is_sealable(path: str) -> bool:
    """Whether a file in a data set has to be named by the seal."""
    return not (path in (SEAL, PENDING) or path in _IGNORED_FILES or path.startswith(_NOT_SEALED))


def _sha256(store: Store, path: str) -> str:
    folder, _, name = path.partition("/")
    name = name.removesuffix(".parquet")
    if folder in (ARTIFACTS, COMMITS) and is_sha256(name):  # `verify` compares it with the content
        return name
    try:
        return hashlib.sha256(store.read(path)).hexdigest()
    except FileNotFoundError:
        return ""


def _write(store: Store, seal: Seal, key: bytes) -> None:
    store.write(SEAL, signed(key, seal).model_dump_json(indent=1).encode())


def signed(key: bytes, seal: Seal, purpose: str = PURPOSE) -> Seal:
    """Return a seal with the HMAC of its content, under a key derived for one purpose."""
    return seal.model_copy(update={"hmac": _hmac(key, seal, purpose)})


def is_signed(key: bytes, seal: Seal, purpose: str = PURPOSE) -> bool:
    """Whether a seal has the HMAC that `signed` gives it."""
    return hmac.compare_digest(seal.hmac.encode(), _hmac(key, seal, purpose).encode())


def _hmac(key: bytes, seal: Seal, purpose: str) -> str:
    content = canonical_json(seal.model_dump(mode="json", exclude={"hmac"}))
    return hmac.new(derived_key(key, purpose), content.encode(), hashlib.sha256).hexdigest()
