"""Log checks: every record of the commit log against the manifest, the files that are there, and the plan's order.

One pass over the log in bounded memory: of a unit, only what its place in the plan needs is kept, about 100 bytes.
"""

import hashlib
from array import array
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from pipeline.audit.verification import Verification
from pipeline.errors import InputError
from pipeline.plan import BranchPlan
from pipeline.publishing.manifest import branch_from
from pipeline.shards.files.discovery import Shard
from pipeline.shards.output.commit_log import CommitLog, Place
from pipeline.shards.output.counts import CountSums
from pipeline.shards.output.data_files import DataFiles
from pipeline.shards.output.record_columns import record_hash
from pipeline.shards.output.segments import FOLDERS, RECORD_COLUMNS, records_of
from pipeline.shards.output.unit_files import file_path
from pipeline.shards.units import UnitGroup
from schemas.manifest import Manifest, UnitRecord

Ints = npt.NDArray[np.int64]
_HASH_BYTES = 32
_AT_ONCE = 4_096
_COLUMNS = ("group", "place", "row", "first", "rows", "chosen")


@dataclass(frozen=True)
class Drawing:
    """Which units are read: a share of them, drawn by a seed and their names."""

    share: float
    seed: int

    def position(self, unit: str) -> float:
        """Return where in [0, 1) a unit comes; those below `share` are read."""
        made = hashlib.blake2b(f"{self.seed}/{unit}".encode(), digest_size=7).digest()
        return int.from_bytes(made, "big") / 2.0**56


class LoggedUnits:
    """The units of the log, in its order, in columns; `groups` are those of one branch and one shard or class.

    Attributes:
        places: row groups of the log.
        sums: the counts of each branch.
    """

    def __init__(self) -> None:
        self.groups: list[UnitGroup] = []
        self.places: list[Place] = []
        self.sums: dict[str, CountSums] = {}
        self._columns: dict[str, array[int]] = {name: array("q") for name in _COLUMNS}
        self._digests, self._hashes = bytearray(), bytearray()
        self._indexes: dict[tuple[str, str | None, int | str | None], int] = {}

    def __len__(self) -> int:
        return len(self._columns["group"])

    @property
    def group(self) -> Ints:
        """[N] index into `groups`."""
        return self._ints("group")

    @property
    def place(self) -> Ints:
        """[N] index into `places`."""
        return self._ints("place")

    @property
    def row(self) -> Ints:
        """[N] row in the row group."""
        return self._ints("row")

    @property
    def first(self) -> Ints:
        """[N] first source row, or image of a class."""
        return self._ints("first")

    @property
    def rows(self) -> Ints:
        """[N] number of source rows, or images."""
        return self._ints("rows")

    @property
    def chosen(self) -> npt.NDArray[np.bool_]:
        """[N] whether its files are read."""
        return self._ints("chosen") > 0

    @property
    def digests(self) -> npt.NDArray[np.uint8]:
        """[N, 32] digest of each unit."""
        return np.frombuffer(bytes(self._digests), np.uint8).reshape(-1, _HASH_BYTES)

    @property
    def hashes(self) -> npt.NDArray[np.uint8]:
        """[N, 32] hash of each record."""
        return np.frombuffer(bytes(self._hashes), np.uint8).reshape(-1, _HASH_BYTES)

    def _ints(self, name: str) -> Ints:
        return np.array(self._columns[name], np.int64)

    def add(self, record: UnitRecord, row: int, chosen: bool) -> UnitGroup:
        """Add a record of the last of `places`; return its group."""
        key = (record.branch, record.shard, record.label)
        if key not in self._indexes:
            self._indexes[key] = len(self.groups)
            shard = None if record.shard is None else Shard(record.shard, record.shard, 0, 0, "", ())
            self.groups.append(UnitGroup(record.branch, shard, record.label))
        group = self._indexes[key]
        values = (group, len(self.places) - 1, row, record.first, record.rows, int(chosen))
        for name, value in zip(_COLUMNS, values, strict=True):
            self._columns[name].append(value)
        self._digests += _digest_bytes(record.digest)
        self._hashes += record_hash(record)
        self.sums.setdefault(record.branch, CountSums()).add(record)
        return self.groups[group]

    def choose(self, index: int) -> None:
        """Read the files of one more unit."""
        self._columns["chosen"][index] = 1


def _digest_bytes(digest: str) -> bytes:
    with suppress(ValueError):
        return bytes.fromhex(digest)[:_HASH_BYTES].ljust(_HASH_BYTES, b"\0")
    return bytes(_HASH_BYTES)  # what is no digest is none of the plan


class Branches:
    """The branches of a manifest, read when they are first asked for."""

    def __init__(self, manifest: Manifest) -> None:
        self._chains = {str(chain.get("name")): chain for chain in reversed(manifest.chains)}
        self._read: dict[str, BranchPlan | str] = {}

    def get(self, name: str, found: Verification) -> BranchPlan | None:
        """Return a branch; where it is not there or cannot be read, add a finding and return None."""
        if name not in self._read:
            self._read[name] = self._branch(name)
        branch = self._read[name]
        if isinstance(branch, str):
            found.add(branch)
            return None
        return branch

    def _branch(self, name: str) -> BranchPlan | str:
        if name not in self._chains:
            return f"branch {name}: units are of it, and the manifest has no branch {name!r}"
        try:
            return branch_from(self._chains[name])
        except InputError as error:
            return str(error)


def read_log(
    manifest: Manifest, log: CommitLog, files: DataFiles, drawing: Drawing, found: Verification
) -> LoggedUnits:
    """Read the log in one pass, and check every record by itself.

    Raises:
        InputError: a segment cannot be read.
    """
    units, branches = LoggedUnits(), Branches(manifest)
    shards = {shard.path for shard in manifest.shards}
    nearest, at = 1.0, -1
    for place, table in log.places(RECORD_COLUMNS):
        units.places.append(place)
        records = list(records_of(table, place.segment.path))
        sizes = iter(files.sizes([file.path for record in records for file in record.files.values()]).tolist())
        for row, record in enumerate(records):
            position = drawing.position(record.unit)
            chosen = position < drawing.share
            if position < nearest:
                nearest, at = position, len(units)
            group = units.add(record, row, chosen)
            found.extend(_files_there(record, sizes, chosen))
            if record.unit != group.name(record.first):
                found.add(f"unit {record.unit}: its rows are those of unit {group.name(record.first)}")
            branch = branches.get(record.branch, found)
            if branch is not None:
                found.extend(record_findings(record, branch, shards))
    if at >= 0:
        units.choose(at)
    return units


def _files_there(record: UnitRecord, sizes: Iterator[int], chosen: bool) -> Iterator[str]:
    """Yield findings about files of a unit that are not there, or of another size; those that are read say it then."""
    for file in record.files.values():
        size = next(sizes)
        if chosen:
            continue
        if size < 0:
            yield f"{file.path}: the file is missing"
        elif size != file.bytes:
            yield f"{file.path}: {size} bytes, and its record says {file.bytes}"


def record_findings(record: UnitRecord, branch: BranchPlan, shards: set[str]) -> Iterator[str]:
    """Yield every contradiction between a record, its own sums and its branch in the manifest.

    Args:
        shards: paths of the shards that the manifest lists.
    """
    unit, copies, where = f"unit {record.unit}", branch.copies, branch.where
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
        if folder not in FOLDERS or file.path != file_path(folder, record.unit, file.sha256):
            yield f"{unit}: {file.path} is not where its files belong"
    rows = {"data": record.accepted, "rejected": record.rejected + record.retried, "quarantine": record.quarantined}
    for folder, expected in rows.items():
        if (record.files[folder].rows if folder in record.files else 0) != expected:
            yield f"{unit}: {folder}/ should hold {expected} rows"
    if record.shard is not None and record.shard not in shards:
        yield f"shard {record.shard}: rows were made from it, and the manifest does not list it"


class PlanOrder:
    """Units in the order of the plan: by branch, then shard or class, then first row."""

    def __init__(self, manifest: Manifest, units: LoggedUnits) -> None:
        self.units = units
        branches = {chain.get("name"): place for place, chain in enumerate(manifest.chains)}
        shards = {shard.path: place for place, shard in enumerate(manifest.shards)}

        def key(group: UnitGroup) -> tuple[int, int, str]:
            part = shards.get(group.shard.path, -1) if group.shard is not None else -1
            part = group.label if isinstance(group.label, int) else part
            return branches.get(group.branch, -1), part, str(group.label)

        in_order = sorted(range(len(units.groups)), key=lambda index: key(units.groups[index]))
        rank = np.empty(len(units.groups), np.int64)
        rank[in_order] = np.arange(len(in_order))
        first, ranks = units.first, rank[units.group]
        self._order = np.lexsort((first, ranks))
        self._first = first[self._order]
        self._end = self._first + units.rows[self._order]
        starts = np.searchsorted(ranks[self._order], np.arange(len(in_order) + 1)).tolist()
        self._spans: dict[tuple[str, str | None, int | str | None], tuple[int, int]] = {}
        for index, span in zip(in_order, pairwise(starts), strict=True):
            group = units.groups[index]
            self._spans[group.branch, group.shard.path if group.shard else None, group.label] = span

    @property
    def commits_sha256(self) -> str:
        """One sha256 over the digest and the files of every unit, as the manifest holds it."""
        return hashlib.sha256(self.units.hashes[self._order].tobytes()).hexdigest()

    def names_and_digests(self) -> Iterator[tuple[str, str]]:
        """Yield the name and the digest of each unit."""
        group, digests = self.units.group, self.units.digests
        for start in range(0, len(self._order), _AT_ONCE):
            part = self._order[start : start + _AT_ONCE]
            numbers = (group[part].tolist(), self._first[start : start + _AT_ONCE].tolist())
            for number, first, digest in zip(*numbers, digests[part], strict=True):
                yield self.units.groups[number].name(first), digest.tobytes().hex()

    def ranges(self, branch: str, shard: str | None, label: int | str | None = None) -> tuple[Ints, Ints]:
        """Return [n] first rows of a group's units, rising, and [n] the rows after their last ones."""
        span = slice(*self._spans.get((branch, shard, label), (0, 0)))
        return self._first[span], self._end[span]

    def overlaps(self) -> Iterator[str]:
        """Yield a finding for every group whose units share rows.

        Sample ids are hashes of seed, shard (or class), row, branch, copy and attempt; those of a unit are checked to
        be those of its own rows, each once. So no id is there twice if no two units of a branch share a row of a shard.
        """
        for branch, shard, label in self._spans:
            first, end = self.ranges(branch, shard, label)
            if (first[1:] < end[:-1]).any():
                of = f"class {label}" if shard is None else f"shard {shard}"
                yield f"branch {branch}: units share rows of {of}, so images are there more than once"
