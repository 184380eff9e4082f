"""The units of one branch that no worker has finished: who gets which next, and the deaths that each has caused.

A row group of Parquet can only be read from its beginning. So each worker goes through a shard of its own; where none
is left, it takes over the last row groups that another has before it, and where none of these begins, it joins it: both
take the next unit in turn. So a row group is read by one worker, but for the last ones of a run.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.plan import Units

DEATHS = 3
"""Worker deaths of one unit after which it is no longer tried."""


def unit_indexes(units: Units) -> dict[str, range]:
    """Return the indexes of the units of each branch that has any, in plan order, where a branch's stand together."""
    found, start = {}, 0
    for branch, totals in units.totals.items():
        if totals.units:
            found[branch] = range(start, start + totals.units)
        start += totals.units
    return found


Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ReadingPlaces:
    """Where units begin to read something new, as rising places in the order of a branch's units.

    shards: [S] of the first unit of each shard (or class). row_groups: [R] of those with which a row group begins.
    """

    shards: Places
    row_groups: Places


def reading_places(units: Units, indexes: range) -> ReadingPlaces:
    """Return where the units of a branch, at `indexes`, begin with another shard or row group."""
    own = slice(indexes.start, indexes.stop)
    group, first = units.group[own], units.first[own]
    shards = np.flatnonzero(np.diff(group, prepend=-1))
    ends = np.append(shards[1:], len(group))
    found = [np.empty(0, np.int64)]
    for start, end in zip(shards[ends - shards > 1], ends[ends - shards > 1], strict=True):
        shard = units.groups[group.item(start)].shard
        if shard is not None and len(shard.group_rows) > 1:
            places = start + np.searchsorted(first[start:end], np.cumsum(shard.group_rows[:-1]))
            found.append(np.unique(places[places < end]))
    return ReadingPlaces(shards.astype(np.int64), np.concatenate(found))


@dataclass
class _Stretch:
    """Places of units that stand together: from `start`, before `stop`."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


class UnitQueue:
    """Indexes of units to be sent: first those that come back from a dead worker, then a worker's own in order.

    Args:
        indexes: of the units, in plan order.
        places: where shards and row groups begin; by default, all units are of one shard.
    """

    def __init__(self, indexes: Sequence[int], places: ReadingPlaces | None = None) -> None:
        one = np.zeros(1, np.int64)
        self._indexes = indexes
        self._places = places or ReadingPlaces(one, one)
        self._begun = 0  # shards that a worker got
        self._own: dict[Any, _Stretch] = {}
        self._left_behind: list[_Stretch] = []
        self._left = len(indexes)
        self._again: deque[int] = deque()
        self._deaths: dict[int, list[str]] = {}

    def __len__(self) -> int:
        return len(self._again) + self._left

    def peek(self, worker: Any = None) -> int:
        """Return the index that `take` would return."""
        return self._again[0] if self._again else self._indexes[self._stretch(worker).start]

    def take(self, worker: Any = None) -> int:
        """Return the index of the unit that a worker is to get next. There must be one."""
        if self._again:
            return self._again.popleft()
        own = self._stretch(worker)
        own.start += 1
        self._left -= 1
        return self._indexes[own.start - 1]

    def release(self, worker: Any) -> None:
        """Give to others what a worker that ended had before it."""
        own = self._own.pop(worker, None)
        if own and all(other is not own for other in self._own.values()):
            self._left_behind.append(own)

    def _stretch(self, worker: Any) -> _Stretch:
        """Return what a worker has before it, alone or with others: one unit or more."""
        own = self._own.get(worker)
        if own:
            return own
        shards = self._places.shards
        if self._left_behind:
            own = self._left_behind.pop()
        elif self._begun < len(shards):
            self._begun += 1
            stop = shards.item(self._begun) if self._begun < len(shards) else len(self._indexes)
            own = _Stretch(shards.item(self._begun - 1), stop)
        else:
            longest = sorted(self._own.values(), key=len, reverse=True)
            own = next((part for each in longest if (part := self._second_half(each))), longest[0])
        self._own[worker] = own
        return own

    def _second_half(self, stretch: _Stretch) -> _Stretch | None:
        """Take the row groups behind the middle from a stretch; None where no row group begins within it."""
        groups = self._places.row_groups
        inside = groups[np.searchsorted(groups, stretch.start, "right") : np.searchsorted(groups, stretch.stop)]
        if not len(inside):
            return None
        place = inside.item(np.abs(inside - (stretch.start + len(stretch) // 2)).argmin())
        half = _Stretch(place, stretch.stop)
        stretch.stop = place
        return half

    def put_back(self, index: int) -> None:
        """Queue a unit again, before all others."""
        self._again.appendleft(index)

    def add_death(self, index: int, reason: str) -> list[str]:
        """Note that a worker died while it made this unit; return the reasons of all of its deaths."""
        deaths = self._deaths.setdefault(index, [])
        deaths.append(reason)
        return deaths

    def finish(self, index: int) -> None:
        """Forget a unit that ended."""
        self._deaths.pop(index, None)

    def is_suspect(self, index: int) -> bool:
        """Whether a worker died of this unit, so that it is sent alone: a further death is then its own."""
        return index in self._deaths
