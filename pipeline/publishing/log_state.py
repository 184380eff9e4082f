"""What the commit log and the data folders of an output hold, compared with a plan: read in one pass, by columns."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import InputError
from pipeline.plan import Plan
from pipeline.shards.output.commit_log import CommitLog, Place
from pipeline.shards.output.counts import CountSums, WrittenFiles, add_counts
from pipeline.shards.output.data_files import DataFiles
from pipeline.shards.output.record_columns import (
    DIGEST_BYTES,
    STATE_COLUMNS,
    check_values,
    digest_bytes,
    files_in,
    groups,
    record_hashes,
    unit_names,
)

ROWS_AT_ONCE = 16_384
"""Records that are read at a time, or those of one row group."""

Indexes = npt.NDArray[np.int64]


@dataclass
class OtherUnits:
    """Units in the log that the plan does not make, or makes otherwise; `names` are those of one shard or class."""

    planned: bool  # the plan has the unit, with another digest
    shard: str | None
    images: int = 0
    names: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)  # paths
    there: int = 0  # units of which every file is there


@dataclass
class LogState:
    """The units that are there, as arrays and sums; nothing holds an object for each unit.

    Attributes:
        done: [N] whether a unit of the plan is there, with its files.
        hashes: [N, 32] uint8, of the record of each unit that is there; zeros where it is not.
        files: the files in the data folders.
        leftovers: size in bytes of files that no record names, by path.
        damaged: what is wrong with units whose files are missing or of another size, by name; they are not done.
        sums: the counts of each branch.
        written: rows, bytes and number of the files of each branch.
        made_on: of those whose device is known: branch, number of the run, and model of the device.
        others: units that this plan does not make so.
    """

    done: npt.NDArray[np.bool_]
    hashes: npt.NDArray[np.uint8]
    files: DataFiles
    leftovers: dict[str, int] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)
    sums: dict[str, CountSums] = field(default_factory=dict)
    written: dict[str, WrittenFiles] = field(default_factory=dict)
    made_on: set[tuple[str, int, str]] = field(default_factory=set)
    others: dict[tuple[str, str | None, str], OtherUnits] = field(default_factory=dict)

    def add(self, plan: Plan, table: pa.Table) -> None:
        """Add records: rows of a segment, with `STATE_COLUMNS`, that `check_values` has passed."""
        found, each = groups(table, "branch", "shard", "label")
        keys = [(branch, shard, None if label is None else json.loads(label)) for branch, shard, label in found]
        known = [plan.units.group_index(*key) for key in keys]
        numbers = np.array([-1 if number is None else number for number in known], np.int64)[each]
        index = plan.units.indexes_of(numbers, table["first"].to_numpy())
        prefixes = ["" if number is None else plan.units.groups[number].prefix for number in known]
        named = pc.equal(table["unit"], unit_names(prefixes, each, table["first"]))
        planned = (index >= 0) & named.to_numpy(zero_copy_only=False)
        digests, hexadecimal = digest_bytes(table["digest"])
        same = planned & hexadecimal
        same[same] = (plan.units.digests[index[same]] == digests[same]).all(axis=1)
        sizes = self._compare_files(table, same)
        self._add_done(table.filter(pa.array(same & sizes)), index[same & sizes])
        for mask, is_planned in ((~same & planned, True), (~same & ~planned, False)):
            if mask.any():
                self._add_others(table.filter(pa.array(mask)), is_planned, sizes[mask])

    def _compare_files(self, table: pa.Table, same: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Return [N] whether the files of a record are there; note what is wrong with those of this plan."""
        sound = np.ones(table.num_rows, np.bool_)
        for _, rows, files in files_in(table):
            there, expected = self.files.sizes(files.field("path").to_pylist()), files.field("bytes").to_numpy()
            sound[rows] &= there == expected
            for row in np.flatnonzero((there != expected) & same[rows]).tolist():
                path, size = files.field("path")[row].as_py(), int(there[row])
                what = "is missing" if size < 0 else f"has {size} bytes, and {expected[row]} were committed"
                self.damaged[table["unit"][int(rows[row])].as_py()] = f"{path} {what}"
        return sound

    def _add_done(self, table: pa.Table, index: Indexes) -> None:
        if not len(index):
            return
        self.done[index] = True
        self.hashes[index] = record_hashes(table)
        add_counts(self.sums, table)
        for branch in table["branch"].unique().to_pylist():
            written = self.written.setdefault(branch, WrittenFiles())
            for _, _, files in files_in(table.filter(pc.equal(table["branch"], branch))):
                written.rows += pc.sum(files.field("rows"), min_count=0).as_py()
                written.bytes += pc.sum(files.field("bytes"), min_count=0).as_py()
                written.files += len(files)
        self.made_on |= {(*run, device) for *run, device in groups(table, "branch", "run", "device")[0] if device}

    def _add_others(self, table: pa.Table, planned: bool, there: npt.NDArray[np.bool_]) -> None:
        found, each = groups(table, "branch", "shard", "label")
        for number, (branch, shard, label) in enumerate(found):
            key = (branch, shard, "" if shard is not None else str(None if label is None else json.loads(label)))
            others = self.others.setdefault(key, OtherUnits(planned, shard))
            some = table.filter(pa.array(each == number))
            others.there += int(there[each == number].sum())
            others.names += some["unit"].to_pylist()
            others.images += pc.sum(some["accepted"]).as_py()
            for _, _, files in files_in(some):
                others.files += files.field("path").to_pylist()

    @property
    def devices(self) -> set[str]:
        """Models of the devices that made the units."""
        return {device for _, _, device in self.made_on}

    def device_of(self, branch: str, run: int) -> str:
        """Return the model that made all units of a branch in a run; empty where it is unknown, or where it was two."""
        models = {device for name, number, device in self.made_on if (name, number) == (branch, run)}
        return models.pop() if len(models) == 1 else ""

    @property
    def sha256(self) -> str:
        """One sha256 over the digest and the files of every unit that is there, in plan order."""
        return hashlib.sha256(self.hashes[self.hashes.any(axis=1)].tobytes()).hexdigest()


def read_state(plan: Plan, log: CommitLog, files: DataFiles) -> LogState:
    """Read the log in one pass.

    Raises:
        InputError: a segment cannot be read.
    """
    units = len(plan.units)
    state = LogState(np.zeros(units, np.bool_), np.zeros((units, DIGEST_BYTES), np.uint8), files)
    for tables in _batches(log.places(STATE_COLUMNS)):
        whole = pa.concat_tables([table for _, table in tables])
        try:
            check_values(whole, "")
        except InputError:
            for place, table in tables:
                check_values(table, place.segment.path)  # says in which it is
            raise
        state.add(plan, whole)
    state.leftovers = files.unnamed()
    return state


def _batches(tables: Iterable[tuple[Place, pa.Table]]) -> Iterator[list[tuple[Place, pa.Table]]]:
    """Yield tables in lists of about `ROWS_AT_ONCE` rows: a call costs as much as some thousand rows."""
    waiting: list[tuple[Place, pa.Table]] = []
    for each in tables:
        waiting.append(each)
        if sum(table.num_rows for _, table in waiting) >= ROWS_AT_ONCE:
            yield waiting
            waiting = []
    if waiting:
        yield waiting
