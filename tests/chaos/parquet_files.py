"""Parquet files of odd schemas and layouts, most of them broken at random: a seed and an index give the same bytes."""

import datetime
import json
import random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.fixtures.shard_files import STRUCT, photos

_PHOTOS = photos(8, 8, 8, seed=5)
_COMPRESSIONS = ("none", "snappy", "gzip", "zstd", "brotli", "lz4")


def broken_shard(seed: int, index: int) -> bytes:
    """Return the bytes of case `index` of a seed; one of six is whole."""
    rng = random.Random(f"shard {seed} {index}")
    data = bytearray(_written(_table(rng), rng))
    if rng.random() < 1 / 6:
        return bytes(data)
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    for _ in range(rng.choice((1, 1, 2, 5))):
        footer = min(footer, len(data))
        data = rng.choice((*(_in_footer,) * 4, *(_in_pages,) * 6, _stretch, _stretch, _cut, _tail, _spliced))(
            data, max(footer, 0), rng
        )
    return bytes(data)


def _table(rng: random.Random) -> pa.Table:
    rows = rng.choice((0, 1, 3, 8, 8, 24, 24, 24, 200))
    columns: dict[str, Any] = {}
    for name in rng.sample(("label", "id", "a", "b", "c", "boxes", "split"), rng.choice((1, 1, 2, 2, 3, 7))):
        columns[name] = _column(name, rows, rng)
    if rng.random() < 0.95:
        columns["image"] = _images(rows, rng)
    table = pa.table(columns)
    if rng.random() < 0.3:
        features = rng.choice(
            ({"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["x", "y", "z"]}}, {}, [], None)
        )
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    return table


def _images(rows: int, rng: random.Random) -> pa.Array:
    some: list[Any] = [rng.choice((*_PHOTOS, *_PHOTOS, None, b"", b"no image")) for _ in range(rows)]
    shape = rng.randrange(4)
    if shape == 0:
        return pa.array(some, pa.binary())
    if shape == 1:
        return pa.array(some, pa.large_binary())
    found = [None if each is None else {"bytes": each, "path": None} for each in some]
    if shape == 2:
        return pa.array([[each] * rng.choice((0, 1, 1, 1, 2)) for each in found], pa.list_(STRUCT))
    return pa.array(found, STRUCT)


def _column(name: str, rows: int, rng: random.Random) -> pa.Array:
    if name == "label" and rng.random() < 0.85:
        return pa.array([rng.choice((0, 1, 2)) for _ in range(rows)])
    kinds: tuple[tuple[pa.DataType, tuple[Any, ...]], ...] = (
        (pa.int64(), (0, -1, 2**62, None)),
        (pa.uint64(), (0, 2**64 - 1)),
        (pa.float64(), (0.5, float("nan"), float("-inf"), None)),
        (pa.float16(), (0.5, 1.0)),
        (pa.bool_(), (True, False, None)),
        (pa.string(), ("a", "", "\x1b[2J", "z" * 5_000, None)),
        (pa.dictionary(pa.int8(), pa.string()), ("a", "b", None)),
        (pa.timestamp("us"), (0, 2**62, None)),
        (pa.date32(), (datetime.date(2026, 1, 1), None)),
        (pa.decimal128(38, 4), (None, 1)),
        (pa.list_(pa.float32()), ([], [1.0, 2.0, 3.0, 4.0], None)),
        (pa.list_(pa.list_(pa.int32())), ([[1, 2], []], [], None)),
        (pa.struct([("x", pa.int32()), ("y", pa.list_(pa.string()))]), ({"x": 1, "y": ["a"]}, {"x": None}, None)),
        (pa.map_(pa.string(), pa.int32()), ([("a", 1)], [], None)),
        (pa.binary(3), (b"abc", None)),
        (pa.null(), (None,)),
    )
    kind, values = rng.choice(kinds)
    return pa.array([rng.choice(values) for _ in range(rows)], kind)


def _written(table: pa.Table, rng: random.Random) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        row_group_size=rng.choice((1, 3, 64, 100_000)),
        compression=rng.choice(_COMPRESSIONS),
        use_dictionary=rng.random() < 0.5,
        data_page_size=rng.choice((1, 200, 1 << 20)),
        data_page_version=rng.choice(("1.0", "2.0")),
        write_statistics=rng.random() < 0.5,
        write_page_index=rng.random() < 0.3,
        write_page_checksum=rng.random() < 0.5,
        store_schema=rng.random() < 0.7,
    )
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _damage(data: bytearray, first: int, end: int, rng: random.Random) -> bytearray:
    for _ in range(rng.choice((1, 1, 2, 8))):
        if first < end:
            at = rng.randrange(first, end)
            data[at] = rng.choice((data[at] ^ (1 << rng.randrange(8)), 0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    return data


def _in_footer(data: bytearray, footer: int, rng: random.Random) -> bytearray:
    return _damage(data, footer, max(footer, len(data) - 8), rng)


def _in_pages(data: bytearray, footer: int, rng: random.Random) -> bytearray:
    return _damage(data, 4, footer, rng)


def _stretch(data: bytearray, footer: int, rng: random.Random) -> bytearray:
    """Zero, double or take out some bytes before or within the footer."""
    if len(data) < 24:
        return data
    at, many = rng.randrange(4, len(data) - 8), rng.choice((1, 4, 30, 400))
    return data[:at] + rng.choice((bytes(many), data[at : at + many] * 2, b"")) + data[at + many :]


def _cut(data: bytearray, footer: int, rng: random.Random) -> bytearray:
    return data[: rng.randrange(len(data) + 1)] if rng.random() < 0.3 else data[rng.randrange(1, 40) :]


def _tail(data: bytearray, footer: int, rng: random.Random) -> bytearray:
    """Say another length of the footer."""
    length = rng.choice((0, 1, 8, len(data), len(data) - 12, 2**31 - 1, 2**31, 2**32 - 1, rng.randrange(1 << 16)))
    return data[:-8] + (max(length, 0) & 0xFFFFFFFF).to_bytes(4, "little") + rng.choice((b"PAR1", b"PARE", b"PAR2"))


def _spliced(data: bytearray, footer: int, rng: random.Random) -> bytearray:
    """Give the pages of one file to the footer of another."""
    other = _written(_table(rng), rng)
    return data[:footer] + other[len(other) - 8 - int.from_bytes(other[-8:-4], "little") :]
