"""A shard is what its columns hold: a value changed in place is noticed, whatever its size and times say."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import UnitError
from pipeline.shards import identity
from pipeline.shards.columns.layout import read_layout
from pipeline.shards.files.discovery import Shard, find_shards
from pipeline.shards.identity import changed_columns, read_file_version, with_column_digests
from pipeline.shards.reader import read_windows
from schemas.recipe import Columns
from tests.fixtures.shard_files import photos


@pytest.fixture
def shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shard whose columns are stored as they are, so that a value can be changed in place."""
    monkeypatch.setenv("PALIMPSEST_CACHE", str(tmp_path / "cache"))
    table = pa.table(
        {
            "image": [{"bytes": data, "path": f"photo-{row:04d}"} for row, data in enumerate(photos(6))],
            "label": pa.array([11, 12, 13, 14, 15, 16], pa.int64()),
            "name": [f"name-{row:04d}" for row in range(6)],
            "boxes": [[{"x": 1000.25 + row}] for row in range(6)],
            "mask": photos(6, seed=2),
        }
    )
    path = tmp_path / "data/a.parquet"
    path.parent.mkdir()
    pq.write_table(table, path, compression="none", use_dictionary=False, row_group_size=4, write_statistics=False)
    return path


def digests(path: Path, drop: tuple[str, ...] = ()) -> Shard:
    shards = find_shards(str(path), "/")
    return with_column_digests(shards, read_layout(shards, Columns(image="image"), drop))[0]


def patch(path: Path, old: bytes, new: bytes, restore: bool = True) -> None:
    """Change bytes in place and set the time of the last change back."""
    before = path.stat()
    data = path.read_bytes()
    assert len(old) == len(new) and data.count(old) == 1
    with path.open("r+b") as file:
        file.seek(data.index(old))
        file.write(new)
    if restore:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def whole(value: int) -> bytes:
    return value.to_bytes(8, "little")


@pytest.mark.parametrize("settled", [False, True], ids=["young file", "kept digests"])
@pytest.mark.parametrize(
    ("old", "new", "column"),
    [
        (whole(16), whole(13), "label"),
        (b"name-0002", b"name-0009", "name"),
        (b"photo-0005", b"photo-0001", "image"),
    ],
)
def test_a_value_changed_in_place_is_named(
    shard: Path, monkeypatch: pytest.MonkeyPatch, settled: bool, old: bytes, new: bytes, column: str
) -> None:
    monkeypatch.setattr(identity, "_YOUNG_NS", 0 if settled else 10**12)
    before = digests(shard)
    time.sleep(0.02)  # times of change are as fine as the kernel's clock
    patch(shard, old, new)
    after = digests(shard)
    assert after.digest == before.digest and after.bytes == before.bytes  # the footer sees nothing
    assert changed_columns(before.columns, after.columns) == [column]


def test_every_column_beside_the_encoded_images_is_hashed(shard: Path) -> None:
    assert [name for name, _ in digests(shard).columns] == ["boxes", "image", "label", "mask", "name"]
    assert [name for name, _ in digests(shard, ("boxes", "mask")).columns] == ["image", "label", "name"]
    before = digests(shard)
    patch(shard, photos(6, seed=2)[3][-40:-20], bytes(20))
    assert changed_columns(before.columns, digests(shard).columns) == ["mask"]
    patch(shard, photos(6)[3][-40:-20], bytes(20))
    assert changed_columns(digests(shard).columns, digests(shard).columns) == []


def test_digests_are_kept_for_a_file_that_stays_as_it_is(shard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def counted(*arguments: object) -> object:
        read.append("file")
        return hashed(*arguments)  # type: ignore[arg-type]

    hashed: Callable[..., object] = identity._hashed
    monkeypatch.setattr(identity, "_hashed", counted)
    digests(shard)
    digests(shard)
    assert len(read) == 2  # too young to be kept
    monkeypatch.setattr(identity, "_YOUNG_NS", 0)
    first = digests(shard)
    assert digests(shard) == first and len(read) == 3
    os.utime(shard)
    assert digests(shard) == first and len(read) == 4
    for kept in (shard.parent.parent / "cache").rglob("*.json"):
        kept.write_text("junk")
    assert digests(shard) == first and len(read) == 5


def test_a_cache_that_cannot_be_written_costs_time_alone(shard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "_YOUNG_NS", 0)
    first = digests(shard)
    monkeypatch.setenv("PALIMPSEST_CACHE", "/proc/nowhere")
    assert digests(shard).columns == first.columns


def test_a_label_that_changes_after_the_plan_stops_its_unit(shard: Path) -> None:
    shards = find_shards(str(shard), "/")
    layout = read_layout(shards, Columns(image="image"), ())
    (found,) = with_column_digests(shards, layout)
    os.utime(shard)
    assert [row.label for _, rows in read_windows(found, layout, 0, 6, 6) for row in rows] == [11, 12, 13, 14, 15, 16]
    patch(shard, whole(16), whole(13))
    with pytest.raises(UnitError, match="column label has changed since the plan"):
        list(read_windows(found, layout, 0, 6, 6))


def test_the_stamp_of_an_object_follows_what_was_written(tmp_path: Path) -> None:
    import fsspec

    assert read_file_version(str(tmp_path / "nothing")) == ""
    fsspec.filesystem("memory").pipe_file("/stamps/a.parquet", b"x")
    assert read_file_version("memory://stamps/a.parquet") == ""  # it tells no ETag: then all is read


def test_thousands_of_columns_cost_seconds_not_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALIMPSEST_CACHE", str(tmp_path / "cache"))
    wide = pa.table({"image": photos(1), "a.b": [1], **{f"c{index}": [index] for index in range(3_000)}})
    pq.write_table(wide, tmp_path / "wide.parquet")
    started = time.perf_counter()
    found = digests(tmp_path / "wide.parquet")
    layout = read_layout((found,), Columns(image="image"), ())
    (_, (row,)), *_ = read_windows(found, layout, 0, 1, 1)
    assert (row.light["c2999"], len(found.columns)) == (2999, 3_001)  # pages of encoded images are not hashed
    assert time.perf_counter() - started < 10  # 70 where names are looked for one after another
