"""The units of one branch that no worker has finished: their order, and the deaths that each has caused."""

from collections import deque
from collections.abc import Sequence

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


class UnitQueue:
    """Indexes of units to be sent: first those that come back from a dead worker, then the others in order."""

    def __init__(self, indexes: Sequence[int]) -> None:
        self._indexes = indexes
        self._next = 0
        self._again: deque[int] = deque()
        self._deaths: dict[int, list[str]] = {}

    def __len__(self) -> int:
        return len(self._again) + len(self._indexes) - self._next

    def peek(self) -> int:
        """Return the index that `take` would return."""
        return self._again[0] if self._again else self._indexes[self._next]

    def take(self) -> int:
        if self._again:
            return self._again.popleft()
        self._next += 1
        return self._indexes[self._next - 1]

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
