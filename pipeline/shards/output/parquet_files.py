"""Published Parquet files: opened without keeping Python's memory, and their hashes."""

import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def open_parquet(data: bytes) -> pq.ParquetFile:
    """Open the bytes of a published Parquet file.

    They are copied into Arrow's own memory: Arrow's threads may release the file last, and releasing memory of Python
    while the interpreter ends aborts the process.
    """
    memory = pa.BufferOutputStream()
    memory.write(data)
    return pq.ParquetFile(pa.BufferReader(memory.getvalue()))


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
