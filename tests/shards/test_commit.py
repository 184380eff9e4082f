"""Committed files, opened."""

import sys

from pipeline.shards.commit import open_parquet
from tests.shard_files import photos, write_shard


def test_an_open_file_holds_no_memory_of_pythons(tmp_path) -> None:
    """Arrow's threads would let go of it while the interpreter ends, which aborts the process now and then."""
    path = tmp_path / "data.parquet"
    write_shard(path, photos(3), labels=[0, 1, 2])
    data = path.read_bytes()
    held = sys.getrefcount(data)
    file = open_parquet(data)
    assert sys.getrefcount(data) == held
    assert file.read(["label"]).column(0).to_pylist() == [0, 1, 2]
