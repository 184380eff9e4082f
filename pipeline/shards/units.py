"""The units of a plan, in columns: about 50 bytes each. A `Unit` is made when it is asked for, and not kept.

Units of one branch that come from one shard, or are of one class, form a group. Each unit is a row of the columns:
its group, its first row, its number of rows and its digest. Its name follows from the group and the first row.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from pipeline.seeding import digest, digest_of_list
from pipeline.shards.files.discovery import Shard

_AT_ONCE: Final = 4_096
_FIRST_BITS: Final = 40
"""Bits of the first row in a sort key; a plan has fewer than 2^37 rows a group, and fewer than 2^21 groups."""

Indexes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Unit:
    """The unit of work, retry and commit: a range of rows of one shard or, without sources, of images of a class."""

    name: str  # also its file name: data/<name>.parquet
    digest: str
    branch: str
    first: int
    rows: int
    shard: Shard | None = None
    label: int | str | None = None


@dataclass(frozen=True)
class UnitGroup:
    """What the units of one branch that come from one shard, or are of one class, have in common."""

    branch: str
    shard: Shard | None = None
    label: int | str | None = None

    @cached_property
    def prefix(self) -> str:
        """The name of each of its units, without the first row."""
        return f"{self.branch}-{_class_slug(self.label) if self.shard is None else _slug(self.shard.path)}-"

    def name(self, first: int) -> str:
        """Return the name of the unit that begins with row (or image) `first`."""
        return f"{self.prefix}{first:09d}"


class Totals(NamedTuple):
    """How many units, and rows (or images without sources) in them."""

    units: int = 0
    rows: int = 0


class Units(Sequence[Unit]):
    """Units in plan order: by branch, then by shard or class, then by first row. Can be pickled.

    Attributes:
        groups: G groups, in plan order.
        group: [N] int32, index into `groups`, never falling.
        first: [N] int64, first row (or image) of each unit, rising within a group.
        rows: [N] int32, number of rows (or images).
        digests: [N, 32] uint8, sha256 of what each unit's bytes depend on.

    The arrays are read-only.
    """

    def __init__(
        self,
        groups: Sequence[UnitGroup],
        group: npt.NDArray[np.int32],
        first: Indexes,
        rows: npt.NDArray[np.int32],
        digests: npt.NDArray[np.uint8],
    ) -> None:
        self.groups = tuple(groups)
        self.group, self.first, self.rows, self.digests = group, first, rows, digests
        for column in (group, first, rows, digests):
            column.flags.writeable = False

    @classmethod
    def of(cls, found: Iterable[tuple[UnitGroup, Indexes, npt.NDArray[np.int32], bytes | bytearray]]) -> "Units":
        """Make the units of groups in plan order: each with its [n] first rows, [n] numbers of rows, and n digests."""
        groups: list[UnitGroup] = []
        firsts: list[Indexes] = [np.empty(0, np.int64)]
        rows: list[npt.NDArray[np.int32]] = [np.empty(0, np.int32)]
        digests = bytearray()
        for group, first, count, some in found:
            groups.append(group)
            firsts.append(first)
            rows.append(count)
            digests += some
        group_of_each = np.repeat(np.arange(len(groups), dtype=np.int32), [len(first) for first in firsts[1:]])
        made = np.frombuffer(digests, np.uint8).reshape(-1, 32)
        return cls(groups, group_of_each, np.concatenate(firsts), np.concatenate(rows), made)

    def __len__(self) -> int:
        return len(self.group)

    @overload
    def __getitem__(self, index: int) -> Unit: ...
    @overload
    def __getitem__(self, index: slice) -> "Units": ...
    def __getitem__(self, index: int | slice) -> "Unit | Units":
        if isinstance(index, slice):
            if index.step is not None and index.step < 0:
                raise ValueError("units stay in plan order: use reversed()")
            return Units(self.groups, *(column[index] for column in self._columns()))
        group, first = self.groups[self.group.item(index)], self.first.item(index)
        made = self.digests[index].tobytes().hex()
        return Unit(group.name(first), made, group.branch, first, self.rows.item(index), group.shard, group.label)

    def __iter__(self) -> Iterator[Unit]:
        for start in range(0, len(self), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            numbers = (self.group[part].tolist(), self.first[part].tolist(), self.rows[part].tolist())
            for number, first, rows, made in zip(*numbers, self._hex(part), strict=True):
                group = self.groups[number]
                yield Unit(group.name(first), made, group.branch, first, rows, group.shard, group.label)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Units):
            return NotImplemented
        same = self.groups == other.groups
        return same and all(map(np.array_equal, self._columns(), other._columns()))

    __hash__ = None  # type: ignore[assignment]

    def __getstate__(self) -> dict[str, Any]:
        """Return the columns; a small part of a plan takes only its own groups along."""
        groups, group = self.groups, self.group
        if len(groups) > len(self):
            used, inverse = np.unique(group, return_inverse=True)
            groups, group = tuple(self.groups[number] for number in used), inverse.astype(np.int32)
        return {"groups": groups, "group": group, "first": self.first, "rows": self.rows, "digests": self.digests}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def names(self) -> Iterator[str]:
        """Yield the names, without making a `Unit`."""
        for start in range(0, len(self), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            for number, first in zip(self.group[part].tolist(), self.first[part].tolist(), strict=True):
                yield self.groups[number].name(first)

    def name(self, index: int) -> str:
        """Return the name of one unit."""
        return self.groups[self.group.item(index)].name(self.first.item(index))

    def plan_digest(self) -> str:
        """Return the digest of a plan with these units."""
        whole = (self._hex(slice(start, start + _AT_ONCE)) for start in range(0, len(self), _AT_ONCE))
        return plan_digest(zip(self.names(), (made for some in whole for made in some), strict=True))

    def select(self, chosen: npt.NDArray[np.bool_] | npt.NDArray[np.integer[Any]]) -> "Units":
        """Return some of the units: by a mask [N], or by rising indexes.

        Raises:
            ValueError: the indexes do not rise.
        """
        if chosen.dtype != np.bool_ and (np.diff(chosen) <= 0).any():
            raise ValueError("units stay in plan order: the indexes must rise")
        return Units(self.groups, *(column[chosen] for column in self._columns()))

    def of_branch(self, branch: str) -> "Units":
        """Return the units of one branch; their columns are views of these."""
        own = self.ranges.get(branch, range(0))
        return self[own.start : own.stop]

    @cached_property
    def ranges(self) -> Mapping[str, range]:
        """The indexes of the units of each branch that has any, in plan order."""
        found: dict[str, range] = {}
        for group, start, stop in zip(self.groups, self._starts[:-1], self._starts[1:], strict=True):
            if start < stop:
                found[group.branch] = range(found.get(group.branch, range(start, stop)).start, stop)
        return found

    @cached_property
    def totals(self) -> Mapping[str, Totals]:
        """Units and rows by branch, in plan order."""
        units = np.bincount(self.group, minlength=len(self.groups)).tolist()
        rows = np.bincount(self.group, weights=self.rows, minlength=len(self.groups)).tolist()
        found: dict[str, Totals] = {}
        for group, own_units, own_rows in zip(self.groups, units, rows, strict=True):
            before = found.get(group.branch, Totals())
            found[group.branch] = Totals(before.units + own_units, before.rows + int(own_rows))
        return found

    def weights(self, copies: Mapping[str, int]) -> Indexes:
        """Return [N] int64, the images that each unit makes at most: its rows times the copies of its branch.

        Args:
            copies: by branch; 0, without sources, counts as 1.
        """
        by_group = np.array([max(1, copies[group.branch]) for group in self.groups], np.int64)
        return by_group[self.group] * self.rows

    def group_index(self, branch: str, shard: str | None, label: int | str | None) -> int | None:
        """Return the index in `groups` of a branch with a shard (its `path`) or, without one, a class."""
        return self._group_indexes.get((branch, shard, label))

    def index_of(self, branch: str, shard: str | None, label: int | str | None, first: int) -> int | None:
        """Return the index of the unit that begins with row (or image) `first` of a shard (its `path`) or a class."""
        number = self.group_index(branch, shard, label)
        if number is None:
            return None
        start, end = self._starts[number], self._starts[number + 1]
        if start == end:
            return None
        index = start + (first - self.first.item(start)) // self.rows.item(start)  # where all are there, of one size
        if not (start <= index < end and self.first.item(index) == first):
            index = start + int(np.searchsorted(self.first[start:end], first))
        return index if index < end and self.first.item(index) == first else None

    def indexes_of(self, groups: npt.NDArray[np.integer[Any]], first: npt.NDArray[np.integer[Any]]) -> Indexes:
        """Return [M] indexes of units by [M] indexes of groups and [M] first rows; -1 where there is no such unit.

        Groups of -1 have no unit.
        """
        asked = _sort_key(groups, first)
        own = self._sort_keys
        index = np.searchsorted(own, asked)
        inside = np.minimum(index, max(len(own) - 1, 0))
        known = (own[inside] == asked) if len(own) else np.zeros(len(asked), np.bool_)
        return np.where(known & (groups >= 0) & (first >= 0) & (first < 1 << _FIRST_BITS), index, -1)

    @cached_property
    def _sort_keys(self) -> Indexes:
        """[N] one rising key for each unit."""
        return _sort_key(self.group, self.first)

    @cached_property
    def _starts(self) -> list[int]:
        """G + 1 indexes: where each group begins, and the end of the last."""
        return [int(start) for start in np.searchsorted(self.group, np.arange(len(self.groups) + 1))]

    @cached_property
    def _group_indexes(self) -> dict[tuple[str, str | None, int | str | None], int]:
        found = enumerate(self.groups)
        return {(each.branch, each.shard.path if each.shard else None, each.label): number for number, each in found}

    def _columns(self) -> tuple[Any, ...]:
        return self.group, self.first, self.rows, self.digests

    def _hex(self, part: slice) -> list[str]:
        text = self.digests[part].tobytes().hex()
        return [text[place : place + 64] for place in range(0, len(text), 64)]


def plan_digest(units: Iterable[tuple[str, str]]) -> str:
    """Return the digest of a plan: over the name and digest of each of its units, in plan order."""
    return digest_of_list(units)


def _sort_key(groups: npt.NDArray[np.integer[Any]], first: npt.NDArray[np.integer[Any]]) -> Indexes:
    return (groups.astype(np.int64) << _FIRST_BITS) + first


def _class_slug(label: int | str | None) -> str:
    if label is None:
        return "any"
    return f"class{label:04d}" if isinstance(label, int) else f"class-{_slug(label)}"


def _slug(path: str) -> str:
    """Return a shard's path as part of a file name; the hash keeps a/b.parquet and a-b.parquet apart."""
    stem = re.sub(r"[^A-Za-z0-9_.]+", "-", path.removesuffix(".parquet")).strip("-.")[-80:]
    return f"{stem}-{digest(path)[:6]}"
