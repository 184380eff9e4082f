"""What the commit log and the data folders of an output hold, compared with a plan: read in one pass."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pipeline.plan import Plan
from pipeline.shards.output.commit_log import CommitLog
from pipeline.shards.output.counts import CountSums, WrittenFiles
from schemas.manifest import UnitRecord

HASH_BYTES = 32


@dataclass
class OtherUnits:
    """Units in the log that the plan does not make, or makes otherwise; `names` are those of one shard or class."""

    planned: bool  # the plan has the unit, with another digest
    shard: str | None
    images: int = 0
    names: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)  # paths


@dataclass
class LogState:
    """The units that are there, as arrays and sums; nothing holds an object for each unit.

    Attributes:
        done: [N] whether a unit of the plan is there, with its files.
        hashes: [N, 32] uint8, of the record of each unit that is there; zeros where it is not.
        damaged: what is wrong with units whose files are missing or of another size, by name; they are not done.
        sums: the counts of each branch.
        written: rows, bytes and number of the files of each branch.
        devices: models of the devices that made them.
        leftovers: size in bytes of files that no record names, by path.
        others: units that this plan does not make so.
    """

    done: npt.NDArray[np.bool_]
    hashes: npt.NDArray[np.uint8]
    leftovers: dict[str, int]
    damaged: dict[str, str] = field(default_factory=dict)
    sums: dict[str, CountSums] = field(default_factory=dict)
    written: dict[str, WrittenFiles] = field(default_factory=dict)
    devices: set[str] = field(default_factory=set)
    others: dict[tuple[str, str | None, str], OtherUnits] = field(default_factory=dict)

    def add(self, plan: Plan, records: Sequence[UnitRecord]) -> None:
        """Add the records of some units."""
        units = plan.units
        groups = [units.group_index(record.branch, record.shard, record.label) for record in records]
        numbers = np.array([-1 if group is None else group for group in groups], np.int64)
        firsts = np.array([record.first for record in records], np.int64)
        for index, record in zip(units.indexes_of(numbers, firsts).tolist(), records, strict=True):
            planned = index >= 0 and units.name(index) == record.unit
            if planned and units.digests[index].tobytes().hex() == record.digest:
                self._add(index, record)
            else:
                self._add_other(record, planned)

    def _add(self, index: int, record: UnitRecord) -> None:
        if (damage := self._damage(record)) is not None:
            self.damaged[record.unit] = damage
            return
        self.done[index] = True
        self.hashes[index] = np.frombuffer(record_hash(record), np.uint8)
        if record.branch not in self.sums:
            self.sums[record.branch], self.written[record.branch] = CountSums(), WrittenFiles()
        self.sums[record.branch].add(record)
        self.written[record.branch].add(record)
        if record.device:
            self.devices.add(record.device)

    def _add_other(self, record: UnitRecord, planned: bool) -> None:
        key = (record.branch, record.shard, "" if record.shard is not None else str(record.label))
        others = self.others.setdefault(key, OtherUnits(planned, record.shard))
        others.names.append(record.unit)
        others.images += record.accepted
        for file in record.files.values():
            self.leftovers.pop(file.path, None)
            others.files.append(file.path)

    def _damage(self, record: UnitRecord) -> str | None:
        found = None
        for file in record.files.values():
            there = self.leftovers.pop(file.path, None)
            if there is None:
                found = f"{file.path} is missing"
            elif there != file.bytes:
                found = f"{file.path} has {there} bytes, and {file.bytes} were committed"
        return found

    @property
    def sha256(self) -> str:
        """One sha256 over the digest and the files of every unit that is there, in plan order."""
        return hashlib.sha256(self.hashes[self.hashes.any(axis=1)].tobytes()).hexdigest()


def record_hash(record: UnitRecord) -> bytes:
    """Return the sha256 over a unit's name, digest and files."""
    files = " ".join(f"{file.path}={file.sha256}" for _, file in sorted(record.files.items()))
    return hashlib.sha256(f"{record.unit} {record.digest} {files}".encode()).digest()


def read_state(plan: Plan, log: CommitLog, files: Mapping[str, int]) -> LogState:
    """Read the log in one pass.

    Args:
        files: sizes in bytes of the files in the data folders, by path.

    Raises:
        InputError: a segment cannot be read.
    """
    units = len(plan.units)
    state = LogState(np.zeros(units, np.bool_), np.zeros((units, HASH_BYTES), np.uint8), {**files})
    for records in log.record_batches():
        state.add(plan, records)
    return state
