"""Columns of records say what the records say, one by one."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.errors import InputError
from pipeline.shards.output.counts import CountSums, add_counts
from pipeline.shards.output.record_columns import (
    check_values,
    digest_bytes,
    files_in,
    groups,
    record_hash,
    record_hashes,
    unit_names,
)
from pipeline.shards.output.segments import FOLDERS, segment_table
from pipeline.shards.output.unit_files import file_path
from pipeline.shards.units import UnitGroup
from schemas.manifest import FileRecord, UnitRecord

SOUND: dict[str, Any] = {
    "unit": "u", "digest": "0a" * 32, "branch": "b", "shard": "s.parquet", "first": 0, "rows": 3, "selected": 3,
    "copies": 2, "accepted": 5, "rejected": 1, "quarantined": 0, "files": {},
}  # fmt: skip


def record(*folders: str, **fields: object) -> UnitRecord:
    unit = str(fields.get("unit", "u"))
    files = {
        each: FileRecord(path=file_path(each, unit, f"{n}" * 64), rows=3 + n, bytes=9 + n, sha256=f"{n}" * 64)
        for n, each in enumerate(folders)
    }
    return UnitRecord.model_validate({**SOUND, "files": files, **fields})


RECORDS = [
    record("data", reasons={"blank": 1}),
    record(*FOLDERS, unit="v", branch="c", reasons={"blank": 2, "sharpness": 1}, quarantine_reasons={"null_image": 4}),
    record(unit="w", shard=None, label="\u00e9"),
    record("rejected", unit="x", shard=None, label=3, reasons={"blank": 3}, retried=2, quarantined=1),
    record("quarantine", "data", unit="y", digest="no digest"),
]


@pytest.fixture
def table() -> pa.Table:
    """The records in two chunks, the second of them with an offset."""
    whole = segment_table([*RECORDS[:2], RECORDS[0], *RECORDS[2:]])
    return pa.concat_tables([whole.slice(0, 2), whole.slice(3)])


def test_hashes_are_those_of_the_records(table: pa.Table) -> None:
    assert record_hashes(table).tobytes() == b"".join(map(record_hash, RECORDS))
    assert record_hashes(table.slice(0, 0)).shape == (0, 32)


def test_counts_are_those_of_the_records(table: pa.Table) -> None:
    sums: dict[str, CountSums] = {}
    expected: dict[str, CountSums] = {}
    for part in (table, table):
        add_counts(sums, part)
    for each in [*RECORDS, *RECORDS]:
        expected.setdefault(each.branch, CountSums()).add(each)
    assert sums == expected and sums["b"].asked == 2 * 4 * 6


def test_groups_are_the_different_values_of_columns(table: pa.Table) -> None:
    found, each = groups(table, "branch", "shard", "label")
    assert [found[number] for number in each] == [
        ("b", "s.parquet", None),
        ("c", "s.parquet", None),
        ("b", None, '"\\u00e9"'),
        ("b", None, "3"),
        ("b", "s.parquet", None),
    ]
    assert len(found) == 4


def test_names_are_those_of_the_groups() -> None:
    parts, first = [UnitGroup("b", label=3), UnitGroup("c")], [0, 7, 123_456_789, 12_345_678_901]
    each = np.array([0, 1, 1, 0])
    named = unit_names([group.prefix for group in parts], each, pa.chunked_array([first]))
    assert named.to_pylist() == [parts[group].name(row) for group, row in zip(each, first, strict=True)]


@pytest.mark.parametrize("bad", ["", "0a" * 31, "0A" * 32, "0g" * 32, "0a" * 31 + "\u00e9", "0a" * 33])
def test_digests_are_bytes_where_they_are_digests(bad: str) -> None:
    found, right = digest_bytes(pa.chunked_array([["0a" * 32, bad], ["ff" * 32]]))
    assert right.tolist() == [True, False, True]
    assert found.tobytes() == b"\x0a" * 32 + bytes(32) + b"\xff" * 32


def test_files_come_with_the_rows_that_have_them(table: pa.Table) -> None:
    found = {folder: (rows.tolist(), files.field("bytes").to_pylist()) for folder, rows, files in files_in(table)}
    assert found == {"data": ([0, 1, 4], [9, 9, 10]), "rejected": ([1, 3], [10, 9]), "quarantine": ([1, 4], [11, 9])}


def test_sound_values_pass(table: pa.Table) -> None:
    check_values(table, "here")
    check_values(table.slice(0, 0), "here")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("first", -1),
        ("first", None),
        ("rows", -1),
        ("rows", 1 << 40),
        ("accepted", None),
        ("branch", None),
        ("digest", None),
        ("label", "[1]"),
        ("label", "{"),
        ("reasons", [{"reason": None, "count": 1}]),
        ("quarantine_reasons", None),
        ("data_file", {"path": "data/../../x", "rows": 1, "bytes": 1, "sha256": "a"}),
        ("data_file", {"path": "elsewhere/x", "rows": 1, "bytes": 1, "sha256": "a"}),
        ("data_file", {"path": None, "rows": 1, "bytes": 1, "sha256": "a"}),
        ("rejected_file", {"path": "rejected/x", "rows": None, "bytes": 1, "sha256": "a"}),
    ],
)
def test_a_value_that_no_run_writes_is_refused(table: pa.Table, column: str, value: object) -> None:
    place = table.schema.get_field_index(column)
    values = table.column(place).to_pylist()
    values[3] = value
    changed = table.set_column(place, table.field(place), pa.array(values, table.field(place).type))
    with pytest.raises(InputError, match=r"^here: the record of unit 'x' cannot be read"):
        check_values(changed, "here")
