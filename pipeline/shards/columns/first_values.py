"""The first values of a column, for columns whose type alone does not tell what they hold. Opens no linked images."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.shards.files.discovery import Shard
from pipeline.shards.files.uris import open_binary

ROWS: Final = 8
_BUFFER_BYTES: Final = 1 << 20

FirstValues = Callable[[str], Sequence[Any]]


def first_values(shards: Sequence[Shard]) -> FirstValues:
    """Return a function that gives the first non-null values of a column, from the first shard that has any."""
    known: dict[str, Sequence[Any]] = {}

    def values(name: str) -> Sequence[Any]:
        if name not in known:
            known[name] = next((found for found in (_of(shard, name) for shard in shards[:ROWS]) if found), ())
        return known[name]

    return values


def _of(shard: Shard, name: str) -> list[Any]:
    """Return the first values of a column of one shard; empty if there are none, or if the shard cannot be read."""
    if not shard.rows:
        return []
    try:
        with open_binary(shard.uri) as stream:
            file = pq.ParquetFile(stream, buffer_size=_BUFFER_BYTES, pre_buffer=False)
            if name not in file.schema_arrow.names:
                return []
            batch = next(file.iter_batches(ROWS, columns=[name], use_threads=False))
            return [value for value in batch.column(0).to_pylist() if value is not None]
    except (pa.ArrowException, OSError, ValueError, StopIteration):
        return []
