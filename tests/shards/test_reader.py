"""Reader: any range of any shard, in windows, with each row's bytes untouched and each failure in its place."""

import dataclasses

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import UnitError
from pipeline.shards.columns.layout import read_layout
from pipeline.shards.files.discovery import find_shards
from pipeline.shards.links.linked_images import OWN_FOLDER
from pipeline.shards.reader import read_windows
from schemas.recipe import Columns
from tests.fixtures.shard_files import STRUCT, photos, png, write_shard


def opened(path, columns=None, drop=()):
    shards = find_shards(str(path), "/")
    return shards[0], read_layout(shards, columns or Columns(), drop)


def read(path, first, rows, window):
    shard, layout = opened(path)
    return list(read_windows(shard, layout, first, rows, window, OWN_FOLDER))


@pytest.mark.parametrize("kind", ["struct", "bytes", "path"])
@pytest.mark.parametrize(("first", "rows", "window"), [(0, 23, 100), (0, 23, 4), (3, 11, 4), (22, 1, 1), (5, 10, 5)])
def test_every_range_gives_its_rows(tmp_path, kind, first, rows, window):
    images = photos(23, 8, 8)
    path = write_shard(
        tmp_path / "a.parquet", images, list(range(23)), [f"i{i}" for i in range(23)], row_group=5, kind=kind
    )
    windows = read(path, first, rows, window)
    assert [len(table) for table, _ in windows] == [min(window, rows - at) for at in range(0, rows, window)]
    found = [row for _, part in windows for row in part]
    assert [row.row for row in found] == list(range(first, first + rows))
    assert [row.data for row in found] == images[first : first + rows]
    assert [(row.label, row.id, row.uri) for row in found] == [
        (i, f"i{i}", str(path)) for i in range(first, first + rows)
    ]
    whole = pa.concat_tables([table for table, _ in windows])
    assert whole.equals(pq.read_table(path).slice(first, rows))


def test_light_columns_and_no_label(tmp_path):
    extra = {"area": [1.5, None], "thumb": pa.array([b"x", b"y"])}
    path = write_shard(tmp_path / "a.parquet", photos(2, 8, 8), ids=[7, None], extra=extra)
    rows = read(path, 0, 2, 2)[0][1]
    assert [row.light for row in rows] == [{"id": 7, "area": 1.5}, {"id": None, "area": None}]
    assert [(row.id, row.label) for row in rows] == [("7", None), (None, None)]


def test_the_table_has_the_columns_of_the_layout_in_its_order(tmp_path):
    for name, order in (("a", ["image", "label", "notes"]), ("b", ["notes", "label", "image"])):
        path = write_shard(tmp_path / f"{name}.parquet", photos(1, 8, 8), [3], extra={"notes": ["n"]})
        pq.write_table(pq.read_table(path).select(order), path)
    shards = find_shards(str(tmp_path), "/")
    layout = read_layout(shards, Columns(), ("notes",))
    for shard in shards:
        ((table, _),) = read_windows(shard, layout, 0, 1, 8)
        assert table.schema.names == ["image", "label"]
        assert table.schema.equals(layout.schema, check_metadata=True)


def test_no_rows(tmp_path):
    assert read(write_shard(tmp_path / "a.parquet", photos(2, 8, 8)), 1, 0, 4) == []


@pytest.mark.parametrize(("first", "rows", "window"), [(0, 3, 1), (2, 1, 1), (-1, 1, 1), (0, 1, 0)])
def test_a_range_outside_the_shard(tmp_path, first, rows, window):
    path = write_shard(tmp_path / "a.parquet", photos(2, 8, 8))
    with pytest.raises(ValueError, match="has 2 rows"):
        read(path, first, rows, window)


def test_null_and_missing_images_are_row_errors(tmp_path):
    image = photos(1, 8, 8)[0]
    (tmp_path / "beside.png").write_bytes(image)
    (tmp_path / "folder").mkdir()
    images = [image, None, "beside.png", "gone.png", b"", str(tmp_path / "beside.png"), "folder", "nosuch://x", "a\0b"]
    for kind in ("struct", "path"):
        values = [None if kind == "path" and isinstance(value, bytes) else value for value in images]
        path = write_shard(tmp_path / f"{kind}.parquet", values, kind=kind)
        rows = read(path, 0, len(values), 100)[0][1]
        codes = [row.error and row.error.code for row in rows]
        plain = "null_image" if kind == "path" else None
        assert codes == [
            plain, "null_image", None, "missing_image", plain, "path_refused", "path_refused", "path_refused",
            "path_refused",
        ]  # fmt: skip
        assert rows[2].data == image
        assert all((row.data is None) == (row.error is not None) for row in rows)
        assert "gone.png" in rows[3].error.message
        assert rows[4].data == (None if kind == "path" else b"")


def test_a_struct_of_null_bytes_without_a_path(tmp_path):
    rows = pa.array([{"bytes": None, "path": None}, {"bytes": None, "path": ""}, None], STRUCT)
    pq.write_table(pa.table({"image": rows}), tmp_path / "a.parquet")
    found = read(tmp_path / "a.parquet", 0, 3, 3)[0][1]
    assert [row.error.code for row in found] == ["null_image"] * 3


def test_images_and_shards_on_an_object_store(tmp_path):
    fs = fsspec.filesystem("memory")
    images = photos(9, 8, 8)
    write_shard(tmp_path / "in" / "a.parquet", [*images, "gone.img"], row_group=4, kind="path")
    fs.put(str(tmp_path / "in"), "/reader", recursive=True)
    try:
        shards = find_shards("memory://reader", "/")
        windows = list(read_windows(shards[0], read_layout(shards, Columns(), ()), 2, 8, 3, OWN_FOLDER))
        found = [row for _, rows in windows for row in rows]
        assert [row.data for row in found] == [*images[2:], None]
        assert found[-1].error.code == "missing_image"
    finally:
        fs.rm("/reader", recursive=True)


def test_corrupt_pages_name_the_shard_and_the_row_group(tmp_path):
    images = [np.random.default_rng(i).bytes(4000) for i in range(12)]
    path = tmp_path / "a.parquet"
    table = pa.table({"image": pa.array(images, pa.binary())})
    pq.write_table(table, path, row_group_size=4, compression="zstd", use_dictionary=False, write_page_checksum=True)
    chunk = pq.ParquetFile(path).metadata.row_group(1).column(0)
    shard, layout = opened(path)
    data = bytearray(path.read_bytes())
    middle = chunk.data_page_offset + chunk.total_compressed_size // 2
    data[middle : middle + 64] = bytes(64)
    path.write_bytes(data)
    assert [row.data for _, rows in read_windows(shard, layout, 0, 4, 4) for row in rows] == images[:4]
    assert [row.data for _, rows in read_windows(shard, layout, 8, 4, 4) for row in rows] == images[8:]
    with pytest.raises(UnitError, match=r"a\.parquet: row group 1 cannot be read"):
        list(read_windows(shard, layout, 0, 12, 4))


def test_a_corrupt_page_header(tmp_path):
    path = write_shard(tmp_path / "a.parquet", photos(12), row_group=4)
    shard, layout = opened(path)
    start = pq.ParquetFile(path).metadata.row_group(2).column(0).data_page_offset
    data = bytearray(path.read_bytes())
    data[start : start + 16] = b"\xff" * 16
    path.write_bytes(data)
    with pytest.raises(UnitError, match="row group 2 cannot be read"):
        list(read_windows(shard, layout, 0, 12, 12))


def test_a_shard_that_changed_or_went_away(tmp_path):
    path = write_shard(tmp_path / "a.parquet", photos(3, 8, 8))
    shard, layout = opened(path)
    write_shard(path, photos(3, 8, 8, seed=1), labels=[1, 2, 3])
    with pytest.raises(UnitError, match="changed since the plan"):
        list(read_windows(shard, layout, 0, 3, 3))
    path.write_bytes(b"")
    with pytest.raises(UnitError, match="the file is empty"):
        list(read_windows(shard, layout, 0, 3, 3))
    path.unlink()
    with pytest.raises(UnitError, match="cannot be opened"):
        list(read_windows(shard, layout, 0, 3, 3))


def test_a_lying_row_count_is_noticed(tmp_path):
    shard, layout = opened(write_shard(tmp_path / "a.parquet", photos(3, 8, 8)))
    lying = dataclasses.replace(shard, rows=4, group_rows=(4,))
    with pytest.raises(UnitError, match="1 rows shorter"):
        list(read_windows(lying, layout, 0, 4, 4))


def test_memory_stays_a_window_whatever_the_row_group(tmp_path):
    rows, size = 1500, 50_000
    table = pa.table({"image": pa.array([bytes([i % 256]) * size for i in range(rows)], pa.binary())})
    settings = {"compression": "none", "use_dictionary": False, "write_batch_size": 16}  # pages of 16 rows, not 1024
    pq.write_table(table, tmp_path / "big.parquet", row_group_size=rows, **settings)
    del table
    shard, layout = opened(tmp_path / "big.parquet")
    before, peak, seen = pa.total_allocated_bytes(), 0, 0
    for _, part in read_windows(shard, layout, 700, 300, 32):
        assert [row.data[0] for row in part] == [row.row % 256 for row in part]
        seen += len(part)
        peak = max(peak, pa.total_allocated_bytes() - before)
    assert seen == 300
    assert peak < rows * size / 4


def test_large_binary_and_string_dictionary(tmp_path):
    image = png(np.zeros((4, 4, 3), np.uint8))
    table = pa.table(
        {"image": pa.array([image] * 3, pa.large_binary()), "label": pa.array(["a", "b", "a"]).dictionary_encode()}
    )
    pq.write_table(table, tmp_path / "a.parquet")
    rows = read(tmp_path / "a.parquet", 0, 3, 2)
    assert [(row.label, row.data) for _, part in rows for row in part] == [("a", image), ("b", image), ("a", image)]
