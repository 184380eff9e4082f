"""A remote file gives the bytes that were asked for, by few requests."""

import io
import random
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.shards.files.remote_file import RemoteFile
from pipeline.shards.files.uris import open_binary

DATA = random.Random(1).randbytes(100_000)


class Counting(io.BytesIO):
    """A file that notes what is read of it."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.size = len(data)
        self.reads: list[tuple[int, int]] = []

    def read(self, size: int | None = -1, /) -> bytes:
        start = self.tell()
        data = super().read(size)
        self.reads.append((start, len(data)))
        return data


def test_any_read_anywhere_gives_the_bytes_of_the_file() -> None:
    rng = random.Random(2)
    file = RemoteFile(Counting(DATA), 700)
    for _ in range(2_000):
        start, size = rng.randrange(100_050), rng.choice((0, 1, 10, 699, 700, 701, 5_000, 200_000))
        assert file.seek(start) == start
        assert file.read(size) == DATA[start : start + size]
        assert file.tell() == max(start, min(start + size, 100_000))
    assert file.seek(-5, io.SEEK_END) == 99_995
    assert file.read() == DATA[-5:]
    assert file.seek(0) == 0 and file.readall() == DATA
    buffer = bytearray(10)
    file.seek(99_993)
    assert file.readinto(buffer) == 7 and bytes(buffer[:7]) == DATA[-7:]


def test_each_byte_of_neighbouring_columns_is_fetched_once() -> None:
    stream = Counting(DATA)
    file = RemoteFile(stream, 10_000)
    for group in range(0, 100_000, 1_000):  # three columns side by side in each row group
        for first, size in ((0, 800), (800, 150), (950, 50)):
            file.seek(group + first)
            assert file.read(size) == DATA[group + first : group + first + size]
    assert stream.reads == [(start, 10_000) for start in range(0, 100_000, 10_000)]


def test_columns_far_apart_do_not_drive_one_another_out() -> None:
    stream = Counting(DATA)
    file = RemoteFile(stream, 1_000)
    for step in range(0, 20_000, 500):
        for column in (0, 30_000, 60_000):
            file.seek(column + step)
            assert file.read(500) == DATA[column + step : column + step + 500]
    assert sum(size for _, size in stream.reads) == 60_000


def test_a_large_read_is_one_request() -> None:
    stream = Counting(DATA)
    file = RemoteFile(stream, 1_000)
    file.seek(3)
    assert file.read(90_000) == DATA[3:90_003]
    assert stream.reads == [(3, 90_000)]


def test_a_file_that_ends_early_is_an_error() -> None:
    stream = Counting(DATA)
    stream.size = 100_010
    with pytest.raises(OSError, match="nothing came of byte 100000 of 100010"):
        RemoteFile(stream, 10).read()


def test_pyarrow_reads_it() -> None:
    table = pa.table({"image": [DATA[n : n + 999] for n in range(90)], "label": list(range(90))})
    with fsspec.open("memory://remote-file.parquet", "wb") as file:
        pq.write_table(table, file, row_group_size=7)
    with open_binary("memory://remote-file.parquet") as stream:
        assert isinstance(stream, RemoteFile)
        parquet: Any = pq.ParquetFile(stream, buffer_size=500, pre_buffer=False)
        assert pa.Table.from_batches(parquet.iter_batches(10)).to_pydict() == table.to_pydict()
