"""Check tasks: the units whose files are read, in parts that one process checks at once; and who checks them.

A part holds the units of all branches that come from one range of a shard, so that its source rows are read once.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from pipeline.audit.log_checks import Branches, LoggedUnits
from pipeline.audit.source_checks import SourceChecks
from pipeline.audit.source_shards import SourceShards
from pipeline.audit.unit_checks import UnitChecks
from pipeline.audit.verification import Verification
from pipeline.audit.watermark_checks import WatermarkChecks
from pipeline.shards.output.commit_log import CommitLog
from pipeline.shards.output.segments import records_of
from pipeline.shards.output.store import Store
from pipeline.shards.units import UnitGroup
from schemas.manifest import Manifest, UnitRecord
from schemas.segments import SEGMENT

RANGE_ROWS = 2_048
"""Source rows of a range; a unit belongs to the range of its first row, and may be longer."""
TASK_IMAGES = 4_096
"""Images of a task, about."""
TABLES_KEPT = 16
"""Row groups of the log that are held while tasks are made."""


@dataclass(frozen=True)
class RangeTask:
    """Units that come from one range of one shard (`opens`: its first range), or of one class without sources."""

    records: tuple[UnitRecord, ...]
    opens: bool


CheckTask = tuple[RangeTask, ...]
TaskRunner = Callable[[Iterable[CheckTask]], Iterator[Verification]]
"""Checks tasks somewhere, and yields what was found in each, in their order."""


def check_tasks(manifest: Manifest, log: CommitLog, units: LoggedUnits) -> Iterator[CheckTask]:
    """Yield the tasks in plan order: shard by shard, then class by class; one task's records are held at a time."""
    shards = {shard.path: place for place, shard in enumerate(manifest.shards)}
    branches = {str(chain.get("name")): place for place, chain in enumerate(manifest.chains)}
    part_of = np.array([_part(index, group, shards) for index, group in enumerate(units.groups)], np.int64)
    branch_of = np.array([branches.get(group.branch, -1) for group in units.groups], np.int64)
    group, first = units.group, units.first
    known = np.flatnonzero(units.chosen & (branch_of[group] >= 0))
    part, bucket = part_of[group[known]], first[known] // RANGE_ROWS
    order = np.lexsort((first[known], branch_of[group[known]], bucket, part))
    places = np.stack([part, bucket], axis=1)[order]
    ends = [*(np.flatnonzero((places[1:] != places[:-1]).any(axis=1)) + 1).tolist(), len(order)]
    records, task, images, start = _Records(log, units), list[RangeTask](), 0, 0
    for end in ends if len(order) else ():
        some = tuple(records.read(index) for index in known[order[start:end]].tolist())
        task.append(RangeTask(some, start == 0 or places[start, 0] != places[start - 1, 0]))
        images, start = images + sum(record.rows * max(1, record.copies) for record in some), end
        if images >= TASK_IMAGES:
            yield tuple(task)
            task, images = [], 0
    if task:
        yield tuple(task)


def _part(index: int, group: UnitGroup, shards: Mapping[str, int]) -> int:
    """Return the place of a group: shards as the manifest lists them, then those that it does not list, and classes."""
    known = None if group.shard is None else shards.get(group.shard.path)
    return len(shards) + index if known is None else known


class _Records:
    """Reads single records of the log; the last row groups are held."""

    def __init__(self, log: CommitLog, units: LoggedUnits) -> None:
        self._places, self._place, self._row = units.places, units.place, units.row
        self._table = lru_cache(TABLES_KEPT)(lambda place: log.table_at(place, SEGMENT.names))

    def read(self, index: int) -> UnitRecord:
        place = self._places[int(self._place[index])]
        return next(records_of(self._table(place).slice(int(self._row[index]), 1), place.segment.path))


class UnitChecker:
    """Checks tasks in this process.

    Args:
        marks: None where marks are not checked.
    """

    def __init__(self, store: Store, manifest: Manifest, marks: WatermarkChecks | None) -> None:
        self._store, self._manifest, self._marks = store, manifest, marks
        self._branches, self._sources = Branches(manifest), SourceShards(manifest)

    def run(self, tasks: Iterable[CheckTask]) -> Iterator[Verification]:
        """Check tasks one after another; the `TaskRunner` of one process."""
        return map(self.check, tasks)

    def check(self, task: CheckTask) -> Verification:
        """Check the units of a task."""
        found = Verification()
        for part in task:
            self._check_range(part, found)
        return found

    def _check_range(self, part: RangeTask, found: Verification) -> None:
        sources = SourceChecks()
        for record in part.records:
            branch = self._branches.get(record.branch, Verification())  # the log checks say what is wrong with it
            if branch is not None:
                UnitChecks(self._store, self._manifest, record, branch, sources, self._marks, found).run()
        shard = part.records[0].shard
        if shard is not None:
            sources.check(self._sources, shard, part.opens, found)
