"""The Parquet files of one unit: staged, hashed, and published under names that hold the hash of their bytes.

    stage under _tmp/  ->  fsync  ->  rename quarantine, rejected, data: the last with the unit's record in its footer

Equal attempts at a unit meet in one file, and other bytes never replace it. A unit is done when the commit log names
it (`pipeline.shards.output.commit_log`), which the driver sees to a little later. Files that no record names yet, since
a process died in between, are taken up by the next run: the record in the footer of the last one, which is there only
if the others are, says all that the log needs (`pipeline.shards.output.data_files`).
"""

import io
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.shards.output.parquet_files import sha256_file
from pipeline.shards.output.segments import FOLDERS, PAYLOAD_BYTES, SAMPLE_ID_BYTES
from pipeline.shards.output.store import Store
from schemas.manifest import FileRecord, UnitRecord

RECORD_KEY: Final = b"palimpsest_unit"
"""Key of a unit's record in the metadata of its last file."""
MAX_ROW_GROUP_BYTES: Final = 256 << 20
"""Bytes of one row group at most, but for a single row that has more: what a reader of the data set holds at once."""
HASH_DIGITS: Final = 16
"""Hex digits of the sha256 of a file that its name ends with."""
NOT_IN_FOOTER: Final = {"seconds", "busy_s", "device", "run", "sample_ids", "payloads"}
"""Fields that differ from run to run, or that the rows themselves say: equal units have equal bytes."""
MADE: Final = ("data", "rejected")
"""Folders of made images, in the order of a record's `sample_ids`."""


def file_path(folder: str, unit: str, sha256: str) -> str:
    """Return the path of a unit's file in the data set."""
    return f"{folder}/{unit}-{sha256[:HASH_DIGITS]}.parquet"


def unit_of(path: str) -> str:
    """Return the unit that the name of a data file says it is of."""
    return path.partition("/")[2].removesuffix(".parquet")[: -HASH_DIGITS - 1]


class UnitFiles:
    """Writes the Parquet files of one unit and publishes them. A folder without rows gets no file."""

    def __init__(self, store: Store, unit: str) -> None:
        self._store = store
        self._unit = unit
        self._stack = ExitStack()
        self._writers: dict[str, pq.ParquetWriter] = {}
        self._rows: dict[str, int] = {}
        self._index = RowIndex()

    def __enter__(self) -> "UnitFiles":
        self._folder = self._stack.enter_context(self._store.stage())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for writer in self._writers.values():
            with suppress(OSError):  # on a full disk; the first error is the one to report
                writer.close()
        self._stack.close()

    def add(self, folder: str, table: pa.Table) -> None:
        """Append rows to the unit's file in `folder` as one row group, or several of `MAX_ROW_GROUP_BYTES`."""
        if table.num_rows == 0:
            return
        with self._store.raising_storage_errors():
            self._write(folder, table)
        self._index.add(folder, table)
        self._rows[folder] = self._rows.get(folder, 0) + table.num_rows

    def _write(self, folder: str, table: pa.Table) -> None:
        if folder not in self._writers:
            # Encoded images do not compress again; the text columns around them do.
            compression = dict.fromkeys(table.schema.names, "zstd") | {"image": "none"}
            self._writers[folder] = pq.ParquetWriter(
                self._staged(folder),
                table.schema,
                compression=_leaf_compression(table.schema, compression),
                use_dictionary=[n for n in ("source_uri", "branch", "unit_digest") if n in table.schema.names],
                write_statistics=["source_row"],
            )
        for group in row_groups(table):
            self._writers[folder].write_table(group, row_group_size=group.num_rows)

    def publish(self, record: UnitRecord) -> UnitRecord:
        """Publish the files of a unit; return its record with them, for the commit log.

        Args:
            record: of the unit, without files.
        """
        written = [folder for folder in reversed(FOLDERS) if folder in self._writers]
        files: dict[str, FileRecord] = {}
        for folder in written:
            if folder == written[-1]:
                footer = record.model_copy(update={"files": files}).model_dump_json(exclude=NOT_IN_FOOTER)
                self._writers[folder].add_key_value_metadata({RECORD_KEY: footer})
            files[folder] = self._close(folder)
            self._store.publish(self._staged(folder), files[folder].path)
        ordered = {folder: files[folder] for folder in FOLDERS if folder in files}
        return record.model_copy(update={"files": ordered, **self._index.fields()})

    def _close(self, folder: str) -> FileRecord:
        staged = self._staged(folder)
        with self._store.raising_storage_errors():
            self._writers[folder].close()
            sha256 = sha256_file(staged)
            return FileRecord(
                path=file_path(folder, self._unit, sha256),
                rows=self._rows[folder],
                bytes=staged.stat().st_size,
                sha256=sha256,
            )

    def _staged(self, folder: str) -> Path:
        return self._folder / f"{folder}.parquet"


def row_groups(table: pa.Table, max_bytes: int = MAX_ROW_GROUP_BYTES) -> Iterator[pa.Table]:
    """Yield a table of at least one row in halves, and halves of these, until each has `max_bytes` or one row."""
    if table.num_rows == 1 or table.nbytes <= max_bytes:
        yield table
        return
    half = table.num_rows // 2
    yield from row_groups(table.slice(0, half), max_bytes)
    yield from row_groups(table.slice(half), max_bytes)


class RowIndex:
    """The sample ids and payloads of a unit's made rows, as its record holds them."""

    def __init__(self) -> None:
        self._ids = {folder: io.BytesIO() for folder in MADE}
        self._payloads = {folder: io.BytesIO() for folder in MADE}

    def add(self, folder: str, table: pa.Table) -> None:
        """Add rows of `data/` or `rejected/`; those of other folders have no sample ids."""
        if folder not in self._ids or "sample_id" not in table.schema.names:
            return
        self._ids[folder].write(b"".join(map(id_bytes, table.column("sample_id").to_pylist())))
        self._payloads[folder].write(b"".join(map(payload_bytes, table.column("watermarks").to_pylist())))

    def fields(self) -> dict[str, bytes]:
        """Return the fields `sample_ids` and `payloads` of a unit's record."""
        ids = b"".join(self._ids[folder].getvalue() for folder in MADE)
        payloads = b"".join(self._payloads[folder].getvalue() for folder in MADE)
        return {"sample_ids": ids, "payloads": payloads if payloads.strip(b"\0") else b""}


def id_bytes(sample_id: str) -> bytes:
    """Return the bytes that stand for a sample id of 32 hex digits."""
    return bytes.fromhex(sample_id)[:SAMPLE_ID_BYTES].ljust(SAMPLE_ID_BYTES, b"\0")


def payload_bytes(marks: Iterable[Mapping[str, Any]]) -> bytes:
    """Return the bytes that stand for the recorded payload of a row's first mark; zeros without one."""
    for mark in marks:
        digits = str(mark["payload"]).rpartition(":")[2][: 2 * PAYLOAD_BYTES]
        with suppress(ValueError):
            return bytes.fromhex(digits).ljust(PAYLOAD_BYTES, b"\0")
    return bytes(PAYLOAD_BYTES)


def _leaf_compression(schema: pa.Schema, by_column: dict[str, str]) -> dict[str, str]:
    """Return the compression of each Parquet leaf, such as `image.bytes` or `partners.list.element.role`."""
    leaves: dict[str, str] = {}
    for field in schema:
        for leaf in _leaves(field.type, field.name):
            leaves[leaf] = by_column[field.name]
    return leaves


def _leaves(kind: pa.DataType, path: str) -> Iterable[str]:
    if pa.types.is_struct(kind):
        for child in kind:
            yield from _leaves(child.type, f"{path}.{child.name}")
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        yield from _leaves(kind.value_type, f"{path}.list.element")
    else:
        yield path
