"""The files in the data folders of a data set, and the record of a unit that the log does not name.

A process that dies, or loses, before the commit log names what it made leaves files that no record names.
"""

import hashlib
import os
from array import array
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.shards.output.parquet_files import open_parquet
from pipeline.shards.output.segments import FOLDERS
from pipeline.shards.output.store import Store
from pipeline.shards.output.unit_files import HASH_DIGITS, MADE, RECORD_KEY, RowIndex, unit_of
from schemas.manifest import FileRecord, UnitRecord


class DataFiles:
    """The files that are there when this is made, by hash of their path: 17 bytes each, however long their names."""

    def __init__(self, store: Store) -> None:
        self._store, self._secret = store, os.urandom(16).hex()
        hashes, sizes = array("q"), array("q")
        for path, size in self._scan():
            hashes.append(self._hash(path))
            sizes.append(size)
        order = np.argsort(np.frombuffer(hashes, np.int64), kind="stable")
        self._hashes, self._sizes = np.frombuffer(hashes, np.int64)[order], np.frombuffer(sizes, np.int64)[order]
        self._named = np.zeros(len(order), np.bool_)

    def sizes(self, paths: Sequence[str]) -> npt.NDArray[np.int64]:
        """Return the [N] bytes of files that a record names; -1 where there is no such file."""
        if not len(self._hashes):
            return np.full(len(paths), -1, np.int64)
        asked = np.fromiter(map(self._hash, paths), np.int64, len(paths))
        index = np.minimum(np.searchsorted(self._hashes, asked), len(self._hashes) - 1)
        known = self._hashes[index] == asked
        self._named[index[known]] = True
        return np.where(known, self._sizes[index], -1)

    def unnamed(self) -> dict[str, int]:
        """Return the bytes of files that no record names, by path, sorted; the folders are listed again for it."""
        if self._named.all():
            return {}
        left = {*self._hashes[~self._named].tolist()}
        return dict(sorted((path, size) for path, size in self._scan() if self._hash(path) in left))

    def _scan(self) -> Iterator[tuple[str, int]]:
        return (each for folder in FOLDERS for each in self._store.scan(folder))

    def _hash(self, path: str) -> int:
        """Return 64 bits that nobody can foresee who does not know the secret of this process."""
        return hash(self._secret + path)


def recovered_record(store: Store, path: str, there: DataFiles) -> UnitRecord | None:
    """Return the record of a finished unit whose last file is at `path`.

    Args:
        there: all data files.

    Returns:
        None where the file is not its unit's last, is damaged, or is of a unit whose other files are not there.
    """
    try:
        data = store.read(path)
    except FileNotFoundError:
        return None
    sha256 = hashlib.sha256(data).hexdigest()
    if not path.endswith(f"-{sha256[:HASH_DIGITS]}.parquet"):
        return None
    try:
        file = open_parquet(data)
        footer = (file.schema_arrow.metadata or {}).get(RECORD_KEY) or (file.metadata.metadata or {}).get(RECORD_KEY)
        if footer is None:
            return None
        record = UnitRecord.model_validate_json(footer)
        folder = path.partition("/")[0]
        own = FileRecord(path=path, rows=file.metadata.num_rows, bytes=len(data), sha256=sha256)
        files = {**record.files, folder: own}
        expected = [each.bytes for each in files.values()]
        if record.unit != unit_of(path) or there.sizes([each.path for each in files.values()]).tolist() != expected:
            return None
        index = RowIndex()
        for each in (each for each in MADE if each in files):
            table = (file if each == folder else open_parquet(store.read(files[each].path))).read(
                columns=["sample_id", "watermarks"]
            )
            index.add(each, table)
    except (pa.ArrowException, OSError, ValueError, KeyError):
        return None
    ordered = {each: files[each] for each in FOLDERS if each in files}
    return record.model_copy(update={"files": ordered, **index.fields()})
