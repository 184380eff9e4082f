"""The commit protocol: files first, the marker last, and the marker says exactly what was committed.

    stage under _tmp/  ->  fsync  ->  rename data, rejected, quarantine  ->  create _commits/<unit>.json if absent

A process may die between any two of these steps. A unit without a marker is made again, with the same bytes, over any
files that were left. A unit with a marker is not touched again, unless its files are gone.

Two processes may make one unit at once, of two drivers or of one that lost sight of a worker. One creates the marker;
it then looks whether its files are still in place, and puts back, from a handle it kept, what another moved away before
the marker was there. Files are removed only where a marker says that they are not of the unit, and the files of a unit
without a marker are moved aside, and back if the marker has come meanwhile (`remove_orphans`).
"""

import hashlib
import shutil
import uuid
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import ConflictError, InputError
from pipeline.shards.output.process_identity import ProcessIdentity
from pipeline.shards.output.store import Store
from pipeline.validation import EarlierLayoutError, read_record
from schemas.manifest import FileRecord, UnitRecord

EARLIER = "use the commit that made it, or make the data set anew with another output.uri"
"""What to do with a data set whose records have earlier field names."""
FOLDERS = ("data", "rejected", "quarantine")
COMMITS = "_commits"
INDEX = f"{COMMITS}/index.jsonl"
INDEX_FROM = 512
"""From this number of markers on, an index file is written."""


def marker_path(unit: str) -> str:
    return f"{COMMITS}/{unit}.json"


def read_markers(store: Store, indexed: bool = True) -> dict[str, UnitRecord]:
    """Return every marker in the store, by unit name: those in the index, then the files the index does not know.

    Args:
        indexed: False to read every file, whatever the index says.

    Raises:
        InputError: one cannot be read.
    """
    paths = store.list(COMMITS)
    markers = read_index(store) if indexed and INDEX in paths else {}
    new = [path for path in paths if path.endswith(".json") and path[len(COMMITS) + 1 : -5] not in markers]
    with ThreadPoolExecutor(16) as pool:
        for path, data in zip(new, pool.map(store.read, new), strict=True):
            marker = parse_marker(path, data)
            if marker_path(marker.unit) != path:
                raise InputError(f"{path}: the marker of another unit, {marker.unit}; give it back its name")
            markers[marker.unit] = marker
    return markers


def read_index(store: Store) -> dict[str, UnitRecord]:
    """Return the markers in the index, by unit name; none where there is no index.

    Raises:
        InputError: one cannot be read.
    """
    try:
        lines = store.read(INDEX).splitlines()
    except FileNotFoundError:
        return {}
    return {marker.unit: marker for marker in (parse_marker(INDEX, line) for line in lines)}


def parse_marker(path: str, data: bytes) -> UnitRecord:
    """Return the marker that `data` holds; raise InputError, which names its file, where it holds none."""
    try:
        return read_record(UnitRecord, data)
    except EarlierLayoutError as field:
        raise InputError(f"{path}: written by an earlier Palimpsest in another layout ({field}); {EARLIER}") from None
    except ValueError:
        remedy = "remove it: units without a marker are made again, the same" if path != INDEX else "remove it"
        raise InputError(f"{path}: this marker cannot be read; {remedy}") from None


def write_index(store: Store, markers: Mapping[str, UnitRecord]) -> None:
    """Write all markers into one index file, so that reading very many of them later is one read."""
    if len(markers) >= INDEX_FROM:
        lines = [markers[name].model_dump_json() for name in sorted(markers)]
        store.write(INDEX, "\n".join(lines).encode())


def markers_digest(markers: Mapping[str, UnitRecord]) -> str:
    """Return one sha256 over the digest and the files of every unit; timings are left out."""
    found = hashlib.sha256()
    for name in sorted(markers):
        marker = markers[name]
        files = " ".join(f"{file.path}={file.sha256}" for _, file in sorted(marker.files.items()))
        found.update(f"{name} {marker.digest} {files}\n".encode())
    return found.hexdigest()


def check_digest(found: UnitRecord, digest: str) -> None:
    """Raise ConflictError if an existing marker was made by another plan."""
    if found.digest != digest:
        raise ConflictError(
            f"unit {found.unit} was committed meanwhile by a run of another plan (digest {found.digest[:12]}, here "
            f"{digest[:12]}); stop one of the two, or give it another output"
        )


def damaged_units(store: Store, markers: Mapping[str, UnitRecord]) -> dict[str, str]:
    """Return the units whose committed files are missing or of another size: {unit: what is wrong}."""
    sizes = {path: size for folder in FOLDERS for path, size in store.sizes(folder).items()}
    found = {}
    for name, marker in markers.items():
        for file in marker.files.values():
            if (there := sizes.get(file.path)) is None:
                found[name] = f"{file.path} is missing"
            elif there != file.bytes:
                found[name] = f"{file.path} has {there} bytes, and {file.bytes} were committed"
    return found


def forget_units(store: Store, units: Iterable[str]) -> None:
    """Remove the markers of units, so that the units are made again."""
    if names := [*units]:
        store.remove(INDEX)  # the next check of all files writes it again
        for name in names:
            store.remove(marker_path(name))


def remove_orphans(store: Store, units: Collection[str]) -> None:
    """Remove orphans: files of units that have no marker, because an attempt died before it wrote one."""
    orphans = {f"{folder}/{name}.parquet": name for folder in FOLDERS for name in units}
    for path in (path for folder in FOLDERS if orphans for path in store.list(folder)):
        if path not in orphans or store.exists(marker_path(orphans[path])):
            continue
        aside = f"_tmp/{ProcessIdentity.here().prefix}{uuid.uuid4().hex}"
        with suppress(FileNotFoundError):
            store.move(path, aside)
            if store.exists(marker_path(orphans[path])):  # the process that made it was slow, not dead
                store.move(aside, path)
            else:
                store.remove(aside)


def open_parquet(data: bytes) -> pq.ParquetFile:
    """Open the bytes of a committed Parquet file.

    They are copied into Arrow's own memory: Arrow's threads may release the file last, and releasing memory of Python
    while the interpreter ends aborts the process.
    """
    memory = pa.BufferOutputStream()
    memory.write(data)
    return pq.ParquetFile(pa.BufferReader(memory.getvalue()))


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class UnitFiles:
    """Writes the Parquet files of one unit and commits them. A folder without rows gets no file."""

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
            with suppress(OSError):  # on a full disk; the first error is the one to report
                writer.close()
        self._stack.close()

    def add(self, folder: str, table: pa.Table) -> None:
        """Append rows to the unit's file in `folder` as one row group."""
        if table.num_rows == 0:
            return
        with self._store.raising_storage_errors():
            self._write(folder, table)
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
        self._writers[folder].write_table(table, row_group_size=table.num_rows)

    def commit(self, marker: UnitRecord) -> UnitRecord:
        """Publish the files, then the marker; return the marker in the store, which another process may have written.

        Raises:
            ConflictError: the store holds the unit with another digest.
        """
        files = {folder: self._close(folder) for folder in FOLDERS if folder in self._writers}
        marker = marker.model_copy(update={"files": files})
        path, data = marker_path(self._unit), marker.model_dump_json().encode()
        with ExitStack() as kept:
            handles = {folder: kept.enter_context(self._staged(folder).open("rb")) for folder in files}
            if not self._store.exists(path):
                for folder, file in files.items():
                    self._store.publish(self._staged(folder), file.path)
                if self._store.create(path, data):
                    self._put_back(files, handles)
                    self._remove_others(files)
                    return marker
                there = parse_marker(path, self._store.read(path))
                check_digest(there, marker.digest)
                if there.files == files or all(self._in_place(file) for file in there.files.values()):
                    self._remove_others(there.files)
                    return there
                self._store.write(path, data)  # other bytes, and these replaced those: the marker says which are there
                self._put_back(files, handles)
                self._remove_others(files)
                return marker
        there = parse_marker(path, self._store.read(path))
        check_digest(there, marker.digest)
        return there

    def _put_back(self, files: Mapping[str, FileRecord], handles: Mapping[str, BinaryIO]) -> None:
        for folder, file in files.items():
            if self._store.size(file.path) != file.bytes:
                with self._store.raising_storage_errors(), self._staged(folder).open("wb") as again:
                    shutil.copyfileobj(handles[folder], again)
                self._store.publish(self._staged(folder), file.path)

    def _in_place(self, file: FileRecord) -> bool:
        try:
            return hashlib.sha256(self._store.read(file.path)).hexdigest() == file.sha256
        except FileNotFoundError:
            return False

    def _remove_others(self, files: Mapping[str, FileRecord]) -> None:
        """Remove files that another attempt left in folders for which the committed one has no rows."""
        for folder in FOLDERS:
            if folder not in files:
                self._store.remove(f"{folder}/{self._unit}.parquet")

    def _close(self, folder: str) -> FileRecord:
        staged = self._staged(folder)
        with self._store.raising_storage_errors():
            self._writers[folder].close()
            return FileRecord(
                path=f"{folder}/{self._unit}.parquet",
                rows=self._rows[folder],
                bytes=staged.stat().st_size,
                sha256=sha256_file(staged),
            )

    def _staged(self, folder: str) -> Path:
        return self._folder / f"{folder}.parquet"


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
