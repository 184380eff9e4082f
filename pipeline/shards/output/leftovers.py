"""Files in the data folders that no record names, because a process died, or lost, before the commit log named them."""

import hashlib
from collections.abc import Mapping

import pyarrow as pa

from pipeline.shards.output.parquet_files import open_parquet
from pipeline.shards.output.segments import FOLDERS
from pipeline.shards.output.store import Store
from pipeline.shards.output.unit_files import (
    HASH_DIGITS,
    MADE,
    RECORD_KEY,
    RowIndex,
    unit_of,
)
from schemas.manifest import FileRecord, UnitRecord


def data_files(store: Store) -> dict[str, int]:
    """Return the size in bytes of every file in the data folders, by path."""
    return {path: size for folder in FOLDERS for path, size in store.scan(folder)}


def recovered_record(store: Store, path: str, sizes: Mapping[str, int]) -> UnitRecord | None:
    """Return the record of a finished unit whose last file is at `path`.

    Args:
        sizes: of all data files, by path.

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
        if record.unit != unit_of(path) or any(sizes.get(each.path) != each.bytes for each in files.values()):
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
