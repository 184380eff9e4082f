"""The commit protocol: files first, the marker last, and the marker says exactly what was committed.

    stage under _tmp/  ->  fsync  ->  rename data, rejected, quarantine  ->  create _commits/<unit>.json if absent

A process may die between any two of these. Without a marker the unit is simply made again, byte for byte, over what
was left; with one it is never touched again.
"""

import hashlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import ConflictError, InputError
from pipeline.shards.store import Store
from schemas.manifest import FileRecord, Marker

FOLDERS = ("data", "rejected", "quarantine")
COMMITS = "_commits"
INDEX = f"{COMMITS}/index.jsonl"
INDEX_FROM = 512
"""Markers from which an index is worth its write."""


def marker_path(unit: str) -> str:
    return f"{COMMITS}/{unit}.json"


def read_markers(store: Store) -> dict[str, Marker]:
    """Return every marker in the store, by unit name: those in the index, then the files the index does not know.

    Raises:
        InputError: one cannot be read.
    """
    paths = store.list(COMMITS)
    known = store.read(INDEX).splitlines() if INDEX in paths else []
    markers = {marker.unit: marker for marker in (parse_marker(INDEX, line) for line in known)}
    new = [path for path in paths if path.endswith(".json") and path[len(COMMITS) + 1 : -5] not in markers]
    with ThreadPoolExecutor(16) as pool:
        for path, data in zip(new, pool.map(store.read, new), strict=True):
            marker = parse_marker(path, data)
            if marker_path(marker.unit) != path:
                raise InputError(f"{path}: the marker of another unit, {marker.unit}; give it back its name")
            markers[marker.unit] = marker
    return markers


def parse_marker(path: str, data: bytes) -> Marker:
    """Return the marker that `data` holds; raise InputError, which names its file, where it holds none."""
    try:
        return Marker.model_validate_json(data)
    except ValueError:
        remedy = "remove it: units without a marker are made again, the same" if path != INDEX else "remove it"
        raise InputError(f"{path}: this marker cannot be read; {remedy}") from None


def write_index(store: Store, markers: Mapping[str, Marker]) -> None:
    """Write all markers into one file, so that the next look at very many units is one read."""
    if len(markers) >= INDEX_FROM:
        lines = [markers[name].model_dump_json() for name in sorted(markers)]
        store.write(INDEX, "\n".join(lines).encode())


def markers_digest(markers: Mapping[str, Marker]) -> str:
    """Return one sha256 over every unit's digest and files; timings do not count."""
    found = hashlib.sha256()
    for name in sorted(markers):
        marker = markers[name]
        files = " ".join(f"{file.path}={file.sha256}" for _, file in sorted(marker.files.items()))
        found.update(f"{name} {marker.digest} {files}\n".encode())
    return found.hexdigest()


def check_digest(found: Marker, digest: str) -> None:
    """Raise ConflictError where a unit is already there, made by another plan."""
    if found.digest != digest:
        raise ConflictError(
            f"unit {found.unit} is already in the output with digest {found.digest[:12]}, this plan makes "
            f"{digest[:12]}: the recipe, the seed, an operator or a model changed; choose another output"
        )


def open_parquet(data: bytes) -> pq.ParquetFile:
    """Return a committed file's bytes, opened.

    In memory of Arrow's own: its threads may be the last to hold the file, and where that belongs to Python, letting go
    of it while the interpreter ends aborts the process.
    """
    memory = pa.BufferOutputStream()
    memory.write(data)
    return pq.ParquetFile(pa.BufferReader(memory.getvalue()))


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class UnitFiles:
    """The Parquet files of one unit while they are written. Empty ones are left out."""

    def __init__(self, store: Store, unit: str) -> None:
        self._store = store
        self._unit = unit
        self._stack = ExitStack()
        self._writers: dict[str, pq.ParquetWriter] = {}
        self._rows: dict[str, int] = {}

    def __enter__(self) -> "UnitFiles":
        self._folder = self._stack.enter_context(self._store.stage())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for writer in self._writers.values():
            writer.close()
        self._stack.close()

    def add(self, folder: str, table: pa.Table) -> None:
        """Append rows to the unit's file in `folder` as one row group."""
        if table.num_rows == 0:
            return
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
        self._writers[folder].write_table(table, row_group_size=table.num_rows)
        self._rows[folder] = self._rows.get(folder, 0) + table.num_rows

    def commit(self, marker: Marker) -> Marker:
        """Publish the files, then the marker; return the marker that counts.

        Raises:
            ConflictError: the unit is there already with another digest.
        """
        files = {folder: self._close(folder) for folder in FOLDERS if folder in self._writers}
        marker = marker.model_copy(update={"files": files})
        path = marker_path(self._unit)
        if not self._store.exists(path):
            for folder in FOLDERS:  # a file of an attempt that died must not stay beside this one's
                if folder in files:
                    self._store.publish(self._staged(folder), files[folder].path)
                else:
                    self._store.remove(f"{folder}/{self._unit}.parquet")
            if self._store.create(path, marker.model_dump_json().encode()):
                return marker
        there = parse_marker(path, self._store.read(path))
        check_digest(there, marker.digest)
        return there

    def _close(self, folder: str) -> FileRecord:
        self._writers[folder].close()
        staged = self._staged(folder)
        return FileRecord(
            path=f"{folder}/{self._unit}.parquet",
            rows=self._rows[folder],
            bytes=staged.stat().st_size,
            sha256=sha256_file(staged),
        )

    def _staged(self, folder: str) -> Path:
        return self._folder / f"{folder}.parquet"


def _leaf_compression(schema: pa.Schema, by_column: dict[str, str]) -> dict[str, str]:
    """Parquet names leaves, not columns: `image.bytes`, `partners.list.element.role`."""
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
