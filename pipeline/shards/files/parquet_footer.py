"""Parquet footers: schema, row groups and statistics, read from the end of a file without its data."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.messages import error_line
from pipeline.shards.files.file_types import advice, unwrap

_TAIL_BYTES: Final = 65_536  # one request brings the whole footer of all but very wide or very finely grouped files
_MAGIC: Final = b"PAR1"

ReadRange = Callable[[int, int], bytes]  # (first byte, end) -> bytes


@dataclass(frozen=True)
class Footer:
    """The footer of a Parquet file; `digest` is the sha256 of its bytes and the file size, `bytes` the file size."""

    bytes: int
    digest: str
    metadata: pq.FileMetaData
    schema: pa.Schema


def read_footer(read: ReadRange, size: int, name: str) -> Footer:
    """Return the footer of a Parquet file of `size` bytes, from its tail alone.

    Raises:
        InputError: the file is empty, is not Parquet, or its footer is corrupt or encrypted.
    """
    if size == 0:
        raise InputError(f"{name}: the file is empty (0 bytes)")
    tail = read(max(0, size - _TAIL_BYTES), size)
    if tail[-4:] == b"PARE":
        raise InputError(f"{name}: the Parquet footer is encrypted; store the shard without encryption")
    length = int.from_bytes(tail[-8:-4], "little") + 8
    if tail[-4:] != _MAGIC or length + 4 > size:
        head = read(0, min(size, 8))
        if head[:4] != _MAGIC and (known := unwrap(head, name) or advice([name], None)):
            raise InputError(f"{name}: not a Parquet file, but {known}")
        raise InputError(f"{name}: not a Parquet file, or truncated ({size} bytes, and no Parquet footer at the end)")
    if length > len(tail):
        tail = read(size - length, size)
    footer = tail[-length:]
    try:
        file = pq.ParquetFile(pa.BufferReader(_MAGIC + footer))
        schema = file.schema_arrow
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{name}: the Parquet footer is corrupt: {error_line(error)}") from error
    digest = hashlib.sha256(footer + str(size).encode()).hexdigest()
    _remember(digest, schema)
    return Footer(size, digest, file.metadata, schema)


# Schemas by shard digest, so that `read_schemas` need not fetch thousands of footers a second time. The digest covers
# the schema, so an entry can never be out of date.
_schemas: dict[str, pa.Schema] = {}
_interned: dict[bytes, pa.Schema] = {}


def cached_schema(digest: str) -> pa.Schema | None:
    """Return the schema of a shard whose footer this process has read; equal schemas are one object."""
    return _schemas.get(digest)


def _remember(digest: str, schema: pa.Schema) -> None:
    """Cache a schema by the digest of its shard; equal schemas are kept once."""
    _schemas[digest] = _interned.setdefault(schema.serialize().to_pybytes(), schema)


def read_file_footer(fs: Any, path: str, size: int | None, name: str) -> Footer:
    """Read the footer of one file on `fs`."""
    try:
        if size is None:
            size = int(fs.size(path))
        return read_footer(lambda first, end: cast(bytes, fs.cat_file(path, start=first, end=end)), size, name)
    except InputError:
        raise
    except Exception as error:  # every object store brings its own errors
        raise InputError(f"{name}: cannot be read: {error_line(error)}") from error


def constant_value(fs: Any, path: str, name: str, column: str) -> Any:
    """Return the value that all rows of a column share, by the footer's statistics; None if there is none."""
    metadata = read_file_footer(fs, path, None, name).metadata
    values = set()
    for group in (metadata.row_group(place) for place in range(metadata.num_row_groups)):
        for chunk in (group.column(place) for place in range(group.num_columns)):
            if chunk.path_in_schema == column:
                known = chunk.statistics
                if known is None or not known.has_min_max or known.min != known.max or known.null_count:
                    return None
                values.add(known.min)
    return values.pop() if len(values) == 1 else None
