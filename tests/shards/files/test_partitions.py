"""Partitions: what folders state becomes columns of the rows, in the shards' order and in the right type."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError
from pipeline.shards.columns.layout import read_layout
from pipeline.shards.files.discovery import find_shards
from pipeline.shards.files.partitions import partition_fields, partitions_of
from pipeline.shards.reader import read_windows
from schemas.recipe import Columns
from tests.fixtures.shard_files import photos, write_shard


@pytest.mark.parametrize(
    ("uri", "path", "stated"),
    [
        ("/d/label=cat/0.parquet", "label=cat/0.parquet", [("label", "cat")]),
        ("/d/split=train/label=a%20b%2Fc/0.parquet", "split=train/label=a%20b%2Fc/0.parquet",
         [("split", "train"), ("label", "a b/c")]),
        ("/d/a=1/x/b=2/0.parquet", "a=1/x/b=2/0.parquet", [("a", "1"), ("b", "2")]),
        ("/d/a=1/b=2/0.parquet", "0.parquet", [("a", "1"), ("b", "2")]),
        ("/a=1/d/b=2/0.parquet", "0.parquet", [("b", "2")]),
        ("/d/label=__HIVE_DEFAULT_PARTITION__/0.parquet", "label=__HIVE_DEFAULT_PARTITION__/0.parquet",
         [("label", None)]),
        ("/d/label=/0.parquet", "label=/0.parquet", [("label", None)]),
        ("/d/x=a=b/0.parquet", "x=a=b/0.parquet", [("x", "a=b")]),
        ("/d/=x/0.parquet", "=x/0.parquet", []),
        ("/d/label=x.parquet", "label=x.parquet", []),
        ("s3://b/label=ü/0.parquet", "label=ü/0.parquet", [("label", "ü")]),
    ],
)  # fmt: skip
def test_what_folders_state(uri, path, stated):
    assert list(partitions_of(uri, path)) == stated


def test_two_folders_of_one_name_are_an_error():
    with pytest.raises(InputError, match="two of its folders say a="):
        partitions_of("/d/a=1/a=2/0.parquet", "a=1/a=2/0.parquet")


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "-2", "0"], pa.int64()),
        (["1", None], pa.int64()),
        (["1", "x"], pa.string()),
        (["007"], pa.string()),
        (["1.5"], pa.string()),
        (["9" * 19], pa.string()),
        ([None], pa.string()),
    ],
)
def test_the_type_of_a_stated_column(values, kind):
    assert partition_fields([(("a", value),) for value in values]) == [pa.field("a", kind)]


def test_a_label_of_folders_is_a_column_like_any_other(tmp_path):
    for name in ("dog", "cat"):
        write_shard(tmp_path / f"in/label={name}/fold=3/0.parquet", photos(2), ids=["a", "b"])
    write_shard(tmp_path / "in/x.parquet", photos(1), ids=["c"])
    shards = find_shards("in", str(tmp_path))
    layout = read_layout(shards, Columns(), ())
    assert (layout.label, layout.schema.field("label").type, layout.schema.field("fold").type) == (
        "label", pa.string(), pa.int64(),
    )  # fmt: skip
    rows = [row for shard in shards for _, rows in read_windows(shard, layout, 0, shard.rows, 8) for row in rows]
    assert [(row.label, row.light["fold"]) for row in rows] == [("cat", 3)] * 2 + [("dog", 3)] * 2 + [(None, None)]
    assert read_layout(shards, Columns(), ("label",)).schema.names == ["image", "id", "fold"]


def test_a_column_that_is_also_a_folder_must_agree(tmp_path):
    table = pa.table({"image": photos(2), "label": ["cat", "cat"]})
    (tmp_path / "in/label=cat").mkdir(parents=True)
    pq.write_table(table, tmp_path / "in/label=cat/0.parquet")
    shards = find_shards("in", str(tmp_path))
    assert read_layout(shards, Columns(), ()).schema.names == ["image", "label"]
    write_shard(tmp_path / "flags/flag=true/0.parquet", photos(2), extra={"flag": [True, True]})
    assert read_layout(find_shards("flags", str(tmp_path)), Columns(), ()).schema.field("flag").type == pa.bool_()
    pq.write_table(table.set_column(1, "label", pa.array(["cat", "dog"])), tmp_path / "in/label=cat/0.parquet")
    with pytest.raises(InputError, match=r"it holds a column 'label', and its folder says label=cat"):
        read_layout(find_shards("in", str(tmp_path)), Columns(), ())
