"""A cursor in an open shard, kept between reads, so that a row group is decoded once and not once a unit.

Parquet cannot be entered in the middle of a row group, and pandas, Polars and Spark write shards of a single one. A
worker gets its units in the order of their rows, so it continues where it stopped and skips the rows between.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO, Final

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import InputError, UnitError
from pipeline.messages import error_line
from pipeline.shards.files.discovery import Shard
from pipeline.shards.files.parquet_footer import Footer, read_footer
from pipeline.shards.files.uris import ROWS_AHEAD_BYTES, cause_of, open_binary
from pipeline.shards.identity import read_file_version

_BATCH_ROWS: Final = 64
_BATCH_BYTES: Final = 16 << 20  # of decoded columns, by the average of the row group: fewer rows where images are large
_BUFFER_BYTES: Final = 4 << 20  # read a column chunk in pieces: a whole one can be as large as the shard


class Cursor:
    """One open shard, read forwards. It holds one buffer a column and a batch of 64 rows or about 16 MiB.

    Args:
        columns: those to read; the shard may lack some.

    Attributes:
        pinned: whether a read fails once the shard has changed; else `check` looks.
        has_known_columns: set by whoever has compared the shard's columns with the plan's; `check` takes it back where
            the file is another since.

    Raises:
        UnitError: the shard cannot be opened, or has changed since the plan.
    """

    def __init__(self, shard: Shard, columns: Sequence[str]) -> None:
        self.shard = shard
        self.columns = tuple(columns)
        self._stream = _opened(shard)
        self.pinned: bool = getattr(self._stream, "pinned", False)
        self._version = "" if self.pinned else read_file_version(shard.uri)
        self.has_known_columns = False
        try:
            footer = _checked(self._stream, shard)
        except UnitError:
            self._stream.close()
            raise
        self._file = pq.ParquetFile(
            self._stream,
            metadata=footer.metadata,
            buffer_size=_BUFFER_BYTES,
            pre_buffer=False,
            page_checksum_verification=True,
        )
        self._group = -1
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._left: pa.RecordBatch | None = None  # of the last batch, what no one has asked for yet
        self._row = 0  # of the group: the first that has not been given or skipped

    def __del__(self) -> None:
        if hasattr(self, "_stream"):
            self.close()

    def close(self) -> None:
        """Close the file."""
        self._batches, self._left = iter(()), None
        with contextlib.suppress(Exception):  # it was only read
            self._stream.close()

    def is_of(self, shard: Shard, columns: Sequence[str]) -> bool:
        """Return whether this cursor is open on that shard, with those columns."""
        return self.shard == shard and self.columns == tuple(columns)

    def check(self) -> None:
        """Raise UnitError if the shard has changed since the plan; costs little where its file version stayed."""
        if self.pinned:
            return
        now = read_file_version(self.shard.uri)
        if now and now == self._version:
            return
        self.has_known_columns = False
        with _opened(self.shard) as stream:
            _checked(stream, self.shard)
        self._version = now

    def read(self, first: int, rows: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows [first, first + rows) in batches that never cross a row group.

        Raises:
            UnitError: a row group is corrupt, or shorter than the footer says.
        """
        group_start = 0
        for group, group_rows in enumerate(self.shard.group_rows):
            skip = max(first - group_start, 0)
            take = min(first + rows - group_start, group_rows) - skip
            group_start += group_rows
            if take > 0:
                yield from self._of_group(group, skip, take)

    def _of_group(self, group: int, skip: int, take: int) -> Iterator[pa.RecordBatch]:
        """Yield `take` rows of a row group after its first `skip` rows."""
        try:
            if group != self._group or skip < self._row:
                self._enter(group)
            while take > 0:
                batch = self._left if self._left is not None else next(self._batches, None)
                if batch is None:
                    raise UnitError(f"{self.shard.uri}: row group {group} is {take} rows shorter than its footer says")
                part = batch.slice(max(skip - self._row, 0), take)
                given = min(batch.num_rows, max(skip - self._row, 0) + part.num_rows)
                self._left = batch.slice(given) if given < batch.num_rows else None
                self._row += given
                take -= part.num_rows
                if part.num_rows:
                    yield part
        except (pa.ArrowException, OSError, ValueError) as error:
            raise UnitError(f"{self.shard.uri}: row group {group} cannot be read: {error_line(error)}") from error

    def _enter(self, group: int) -> None:
        there = set(self._file.schema_arrow.names)  # thousands of columns are no reason to be slow
        held = [name for name in self.columns if name in there]
        batch_rows = self._batch_rows(group)
        self._batches = self._file.iter_batches(batch_rows, row_groups=[group], columns=held, use_threads=False)
        self._group, self._row, self._left = group, 0, None

    def _batch_rows(self, group: int) -> int:
        """Return how many rows of a group to decode at a time, 1 to 64."""
        described = self._file.metadata.row_group(group)
        average = int(described.total_byte_size) // max(1, int(described.num_rows))
        return max(1, min(_BATCH_ROWS, _BATCH_BYTES // max(1, average)))


class CursorCache:
    """Keeps the last cursor of a worker for its next unit. Not thread-safe."""

    def __init__(self) -> None:
        self._kept: Cursor | None = None

    @contextlib.contextmanager
    def at(self, shard: Shard, columns: Sequence[str]) -> Iterator[Cursor]:
        """Give a cursor in a shard; it is kept afterwards, unless reading failed or stopped early.

        Raises:
            UnitError: the shard cannot be opened, or has changed since the plan.
        """
        cursor, self._kept = self._kept, None
        if cursor is not None and cursor.is_of(shard, columns):
            cursor.check()
        else:
            if cursor is not None:
                cursor.close()
            cursor = Cursor(shard, columns)
        try:
            yield cursor
        except BaseException:
            cursor.close()
            raise
        self._kept = cursor

    def close(self) -> None:
        """Close the cursor that is kept."""
        cursor, self._kept = self._kept, None
        if cursor is not None:
            cursor.close()


def _opened(shard: Shard) -> BinaryIO:
    try:
        return open_binary(shard.uri, ROWS_AHEAD_BYTES)
    except OSError as error:
        raise UnitError(f"{shard.uri}: cannot be opened: {error_line(cause_of(error))}") from error


def _checked(stream: BinaryIO, shard: Shard) -> Footer:
    """Return the footer of a shard; raise UnitError if it has changed since the plan."""

    def read(start: int, end: int) -> bytes:
        stream.seek(start)
        return stream.read(end - start)

    try:
        footer = read_footer(read, stream.seek(0, 2), shard.uri)
    except InputError as error:
        raise UnitError(str(error)) from error
    except Exception as error:  # every object store brings its own errors
        raise UnitError(f"{shard.uri}: cannot be read: {error_line(error)}") from error
    if footer.digest != shard.digest:
        raise UnitError(f"{shard.uri}: the file has changed since the plan was made; plan and run again")
    return footer
