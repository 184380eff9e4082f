"""The commit log of a data set: segments in `_commits/`, each a Parquet file that names many finished units.

A unit is there when a segment names it. Where several do, the record of the later run stands; of one run, an exact one
before one that is not, then the one whose files have the smaller sha256s. So every reader sees the same data set, and
what a driver that was stopped for hours still writes is never preferred to what others made since.

A segment's name is the sha256 of its bytes, so that no two writers meet, and a changed one shows. Segments are added as
units end, and merged into few when the data set is published: the merged one is written first, then the others go.
"""

import copy
import hashlib
import logging
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.messages import error_line
from pipeline.shards.output.parquet_files import sha256_file
from pipeline.shards.output.segments import FOLDERS, RECORD_COLUMNS, records_of, segment_table, write_segment
from pipeline.shards.output.store import Store
from schemas.manifest import SegmentRecord, UnitRecord
from schemas.segments import SEGMENT

_log = logging.getLogger(__name__)

COMMITS: Final = "_commits"
EARLIER: Final = "use the commit that made it, or make the data set anew with another output.uri"
"""What to do with a data set whose records have another layout."""
MERGED_BYTES: Final = 32 << 20
"""Size from which on a segment is left as it is, and of the segments that small ones are merged into."""
RECORDS_AT_ONCE: Final = 4_096
_RANK: Final = ("unit", "run", "exact", "data_file", "rejected_file", "quarantine_file")


Announce = Callable[[str], None]


def tell_nobody(_path: str) -> None:
    """Tell nobody of a segment."""


@dataclass(frozen=True)
class Segment:
    """A segment: its path in the store, its size in bytes, and how many records it holds, standing or not."""

    path: str
    bytes: int
    units: int

    @property
    def sha256(self) -> str:
        """The sha256 that its name says its bytes have."""
        return self.path.removeprefix(f"{COMMITS}/").removesuffix(".parquet")


class Place(NamedTuple):
    """A row group of a segment."""

    segment: Segment
    group: int


class CommitLog:
    """The log as it is when this is made.

    Args:
        merged: paths of segments that are not read, since others hold their records.

    Raises:
        InputError: a segment cannot be read; or the data set is of an earlier layout, with a file for each unit.
    """

    def __init__(self, store: Store, merged: Sequence[str] = ()) -> None:
        self._store, self.merged = store, [*merged]
        sizes = dict(sorted(store.scan(COMMITS)))
        if earlier := next((path for path in sizes if path.endswith((".json", ".jsonl"))), None):
            raise InputError(
                f"{store.uri}/{earlier}: written by an earlier Palimpsest, which kept a file for each unit; {EARLIER}"
            )
        paths = [path for path in sizes if path not in merged and path.endswith(".parquet")]
        self._dropped: dict[str, frozenset[int]] = {}
        self._preferred: dict[str, set[str]] = {}  # segments whose records stand in place of some of a segment's
        named = {path: self._units_in(path) for path in paths}
        self.segments = [Segment(path, sizes[path], len(named[path])) for path in paths]
        self._dropped = self._superseded(named)

    def scan(self, columns: Sequence[str], segments: Iterable[Segment] | None = None) -> Iterator[pa.Table]:
        """Yield the standing rows of each row group, of bounded size, with some of the columns of `SEGMENT`."""
        for _, table in self.places(columns, segments):
            yield table

    def places(
        self, columns: Sequence[str], segments: Iterable[Segment] | None = None
    ) -> Iterator[tuple[Place, pa.Table]]:
        """Yield as `scan` does, each row group with its place."""
        for segment in self.segments if segments is None else segments:
            with self._reading(segment.path):
                for group, table in enumerate(self._groups(segment.path, columns)):
                    yield Place(segment, group), table

    def records_at(self, place: Place) -> Iterator[UnitRecord]:
        """Yield the standing records of one row group, without their index columns."""
        yield from records_of(self.table_at(place, RECORD_COLUMNS), place.segment.path)

    def table_at(self, place: Place, columns: Sequence[str]) -> pa.Table:
        """Return the standing rows of one row group."""
        with self._reading(place.segment.path):
            return next(self._groups(place.segment.path, columns, only=place.group))

    def records(self) -> Iterator[UnitRecord]:
        """Yield the standing record of every unit, without its index columns, in the order of the segments."""
        for segment in self.segments:
            with self._reading(segment.path):
                for table in self._groups(segment.path, RECORD_COLUMNS):
                    for first in range(0, table.num_rows, RECORDS_AT_ONCE):
                        yield from records_of(table.slice(first, RECORDS_AT_ONCE), segment.path)

    def described(self) -> list[SegmentRecord]:
        """Return what the manifest says of the segments."""
        return [SegmentRecord(path=each.path, units=each.units, bytes=each.bytes) for each in self.segments]

    def with_segments(self, added: Iterable[Segment]) -> "CommitLog":
        """Return this log with segments that were added since, of units that it does not hold."""
        log = copy.copy(self)
        log.segments = sorted({*self.segments, *added}, key=lambda segment: segment.path)
        return log

    def merge(
        self, without: Collection[str] = (), untouched: Collection[str] = (), announce: Announce = tell_nobody
    ) -> "CommitLog":
        """Merge small segments into few of about `MERGED_BYTES`, without records that do not stand.

        The segments that were merged stay until `remove_merged` of the log that is returned.

        Args:
            without: names of units whose records are left out, so that the units are there no longer.
            untouched: paths of segments that stay as they are, and with them those whose records they supersede.
            announce: called with the path of each segment before it is there.
        """
        gone = pa.array([*without], pa.string())
        kept = {*untouched, *(path for path, others in self._preferred.items() if not others.isdisjoint(untouched))}
        small = [each for each in self.segments if each.path not in kept and self._is_to_merge(each, gone)]
        sound = [each for each in small if self._is_sound(each)]
        if not sound or (len(sound) == 1 and not self._loses_rows(sound[0], gone)):
            return self
        written = [made for batch in _batches(sound) if (made := self._write_merged(batch, gone, announce)) is not None]
        names = {each.path for each in sound}
        merged = sorted(names - {each.path for each in written})
        left = [each for each in self.segments if each.path not in names]
        if any(self._dropped.get(each.path) for each in left):  # what they hold may stand now
            return CommitLog(self._store, merged)
        log = copy.copy(self)
        log.merged, log.segments, log._dropped, log._preferred = merged, left, {}, {}
        return log.with_segments(written)

    def contradictions(self, paths: Collection[str], trusted: Collection[str]) -> list[str]:
        """Return those of some segments that hold a unit of which `trusted` segments hold another record."""
        if not paths or not trusted:
            return []
        others = {unit for path in paths for unit, _ in self._ranks(path)}
        known = {unit: rank for path in trusted for unit, rank in self._ranks(path) if unit in others}
        return [path for path in paths if any(known.get(unit, rank) != rank for unit, rank in self._ranks(path))]

    def _ranks(self, path: str) -> Iterator[tuple[str, tuple[object, ...]]]:
        """Yield every unit of a segment, those that do not stand included, with its rank: the smaller one stands."""
        with self._reading(path):
            for table in self._groups(path, _RANK, all_rows=True):
                for row in table.to_pylist():
                    yield row["unit"], _rank(row)

    def remove_merged(self) -> None:
        """Remove the segments that were merged into others, which this log does not read."""
        self._store.remove_many(self.merged)

    def _write_merged(self, segments: Sequence[Segment], gone: pa.Array, announce: Announce) -> Segment | None:
        def kept() -> Iterator[pa.Table]:
            for table in self.scan(SEGMENT.names, segments):
                left = table.filter(pc.invert(pc.is_in(table.column("unit"), value_set=gone)))
                if left.num_rows:
                    yield left

        return publish_segment(self._store, kept(), announce)

    def _is_to_merge(self, segment: Segment, gone: pa.Array) -> bool:
        return segment.bytes < MERGED_BYTES or self._loses_rows(segment, gone)

    def _loses_rows(self, segment: Segment, gone: pa.Array) -> bool:
        if self._dropped.get(segment.path):
            return True
        return len(gone) > 0 and any(
            pc.any(pc.is_in(table.column("unit"), value_set=gone)).as_py() for table in self.scan(["unit"], [segment])
        )

    def _is_sound(self, segment: Segment) -> bool:
        """Whether a segment's bytes are those that its name says; a changed one is left for `verify` to name."""
        if hashlib.sha256(self._store.read(segment.path)).hexdigest() == segment.sha256:
            return True
        _log.warning(
            "%s: its bytes are not those that its name says; remove it and run again: its units are taken up from "
            "their files",
            segment.path,
        )
        return False

    def _groups(
        self, path: str, columns: Sequence[str], all_rows: bool = False, only: int | None = None
    ) -> Iterator[pa.Table]:
        dropped, first = frozenset[int]() if all_rows else self._dropped.get(path, frozenset()), 0
        with self._store.open(path) as stream:
            file = pq.ParquetFile(stream)
            if file.schema_arrow.names != SEGMENT.names:
                raise ValueError("its columns are not those of a segment")
            schema = pa.schema([SEGMENT.field(name) for name in columns])
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                if only not in (None, group):
                    first += rows
                    continue
                table = file.read_row_group(group, [*columns]).cast(schema)
                if dropped:
                    table = table.filter(pa.array([first + row not in dropped for row in range(rows)]))
                first += rows
                yield table

    def _reading(self, path: str) -> "_Reading":
        return _Reading(f"{self._store.uri}/{path}")

    def _superseded(self, named: Mapping[str, pa.ChunkedArray]) -> dict[str, frozenset[int]]:
        """Return the rows of each segment that do not stand, because another segment has a better record.

        Args:
            named: the units of each segment.
        """
        units = pa.chunked_array([chunk for each in named.values() for chunk in each.chunks], pa.string())
        if pc.count_distinct(units).as_py() == len(units):
            return {}
        counted = pc.value_counts(units)
        doubled = counted.field("values").filter(pc.greater(counted.field("counts"), 1))
        best: dict[str, tuple[object, ...]] = {}
        places: dict[str, list[tuple[str, int]]] = {}
        standing: dict[str, tuple[str, int]] = {}
        for path, names in named.items():
            if not pc.any(pc.is_in(names, value_set=doubled)).as_py():
                continue
            wanted = {*doubled.to_pylist()}
            for place, (unit, rank) in enumerate(self._ranks(path)):
                if unit not in wanted:
                    continue
                places.setdefault(unit, []).append((path, place))
                if unit not in best or rank < best[unit]:
                    best[unit], standing[unit] = rank, (path, place)
        dropped: dict[str, set[int]] = {}
        for unit, found in places.items():
            for path, place in found:
                if (path, place) != standing[unit]:
                    dropped.setdefault(path, set()).add(place)
                    self._preferred.setdefault(path, set()).add(standing[unit][0])
        return {path: frozenset(rows) for path, rows in dropped.items()}

    def _units_in(self, path: str) -> pa.ChunkedArray:
        with self._reading(path):
            tables = [*self._groups(path, ["unit"])]
        return pa.chunked_array([chunk for table in tables for chunk in table.column("unit").chunks], pa.string())


class _Reading:
    """Turns errors while a segment is read into InputError."""

    def __init__(self, where: str) -> None:
        self._where = where

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, at: object) -> None:
        if isinstance(error, FileNotFoundError):
            raise InputError(f"{self._where}: is gone: a run merges segments just now; try again") from error
        if isinstance(error, pa.ArrowException | ValueError | KeyError | EOFError) and not isinstance(
            error, InputError
        ):
            raise InputError(
                f"{self._where}: this segment of the commit log cannot be read ({error_line(error)}); remove it: a run "
                "takes its units up from their files, or makes them again, the same"
            ) from error


def _rank(row: dict[str, object]) -> tuple[object, ...]:
    """Return what decides between two records of one unit: that with the smaller rank stands."""
    files = [row[f"{folder}_file"] for folder in FOLDERS]
    hashes = [str(file["sha256"]) if isinstance(file, dict) else "" for file in files]
    run = row["run"]
    return (-run if isinstance(run, int) else 0, row["exact"] is not True, *hashes)


def _batches(segments: Sequence[Segment]) -> Iterator[list[Segment]]:
    """Yield segments in groups of about `MERGED_BYTES` together."""
    batch: list[Segment] = []
    for segment in segments:
        batch.append(segment)
        if sum(each.bytes for each in batch) >= MERGED_BYTES:
            yield batch
            batch = []
    if batch:
        yield batch


def append(store: Store, records: Sequence[UnitRecord], announce: Announce = tell_nobody) -> str | None:
    """Write a segment that names some units, and return its path; None without any."""
    segment = publish_segment(store, [segment_table(records)], announce) if records else None
    return None if segment is None else segment.path


def publish_segment(store: Store, tables: Iterable[pa.Table], announce: Announce = tell_nobody) -> Segment | None:
    """Write tables as one segment, named by its bytes, and return it; None where there is no row.

    Args:
        announce: called with its path before it is there.
    """
    with store.stage() as folder:
        staged = folder / "segment"
        with store.raising_storage_errors():
            units = write_segment(tables, os.fspath(staged))
        if not units:
            return None
        segment = Segment(f"{COMMITS}/{sha256_file(staged)}.parquet", staged.stat().st_size, units)
        announce(segment.path)
        store.publish(staged, segment.path)
        return segment
