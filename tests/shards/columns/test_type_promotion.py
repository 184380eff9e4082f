"""Promotion: schemas that differ a little become one, and every value stays what it was."""

import json
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError
from pipeline.shards.columns.layout import read_layout
from pipeline.shards.columns.shared_schema import promoted_shards
from pipeline.shards.columns.type_promotion import cast, plain_type, promoted
from pipeline.shards.files.discovery import find_shards
from pipeline.shards.reader import read_windows
from schemas.recipe import Columns
from tests.fixtures.shard_files import STRUCT, photos

TEXT, LARGE = pa.string(), pa.large_string()
DICTIONARY = pa.dictionary(pa.int8(), TEXT)


@pytest.mark.parametrize(
    ("first", "second", "both"),
    [
        (pa.int32(), pa.int64(), pa.int64()),
        (pa.uint8(), pa.uint64(), pa.uint64()),
        (pa.uint8(), pa.int8(), pa.int16()),
        (pa.uint32(), pa.int64(), pa.int64()),
        (pa.uint64(), pa.int8(), None),
        (pa.int32(), pa.float32(), pa.float64()),
        (pa.int8(), pa.float32(), pa.float32()),
        (pa.int64(), pa.float64(), None),
        (pa.float16(), pa.float64(), pa.float64()),
        (pa.decimal128(5, 2), pa.decimal128(6, 4), pa.decimal128(7, 4)),
        (pa.null(), pa.int8(), pa.int8()),
        (pa.null(), pa.null(), pa.null()),
        (TEXT, LARGE, LARGE),
        (pa.string_view(), TEXT, TEXT),
        (pa.string_view(), pa.string_view(), TEXT),
        (pa.binary_view(), pa.large_binary(), pa.large_binary()),
        (pa.binary(4), pa.binary(), pa.binary()),
        (pa.binary(), TEXT, None),
        (DICTIONARY, LARGE, LARGE),
        (DICTIONARY, pa.dictionary(pa.int32(), TEXT), pa.dictionary(pa.int32(), TEXT)),
        (DICTIONARY, pa.int64(), None),
        (pa.list_(pa.int32()), pa.list_(pa.field("element", pa.int64(), False)), pa.list_(pa.int64())),
        (pa.list_(pa.int32()), pa.large_list(pa.int32()), pa.large_list(pa.int32())),
        (pa.list_(pa.int32(), 2), pa.list_(pa.int32(), 3), pa.list_(pa.int32())),
        (pa.list_(pa.int32()), pa.int32(), None),
        (pa.struct([("a", pa.int8()), ("b", TEXT)]), pa.struct([("b", LARGE), ("c", pa.int8())]),
         pa.struct([("a", pa.int8()), ("b", LARGE), ("c", pa.int8())])),
        (pa.struct([("a", pa.int8())]), pa.struct([("a", TEXT)]), None),
        (STRUCT, pa.struct([("path", pa.null()), ("bytes", pa.large_binary())]),
         pa.struct([("bytes", pa.large_binary()), ("path", TEXT)])),
        (pa.map_(TEXT, pa.int8()), pa.map_(TEXT, pa.int16()), pa.map_(TEXT, pa.int16())),
        (pa.timestamp("ms", "UTC"), pa.timestamp("us", "UTC"), pa.timestamp("us", "UTC")),
        (pa.timestamp("ms"), pa.timestamp("ms", "UTC"), None),
        (pa.time32("s"), pa.time64("ns"), pa.time64("ns")),
        (pa.date32(), pa.date64(), pa.date32()),
        (pa.bool_(), pa.int8(), None),
        (pa.json_(), TEXT, TEXT),
    ],
)  # fmt: skip
def test_what_two_types_become(first, second, both):
    assert promoted(first, second) == both
    backward = promoted(second, first)
    assert (backward is None) == (both is None)
    if both is not None and not pa.types.is_struct(both):
        assert backward == both


@pytest.mark.parametrize(
    ("values", "kind", "to"),
    [
        ([1, None], pa.int32(), pa.int64()),
        (["a", None, "a"], DICTIONARY, LARGE),
        (["a", None], DICTIONARY, pa.dictionary(pa.int32(), LARGE)),
        (["a", None], pa.string_view(), TEXT),
        ([["a"], None], pa.list_(pa.string_view()), pa.list_(TEXT)),
        ([{"a": 1}, None], pa.struct([("a", pa.int8())]), pa.struct([("b", TEXT), ("a", pa.int64())])),
        (["{}", None], pa.json_(pa.string_view()), TEXT),
        ([None, None], pa.null(), pa.dictionary(pa.int8(), TEXT)),
        ([Decimal("1.25")], pa.decimal128(5, 2), pa.decimal128(9, 4)),
        ([[1, 2]], pa.list_(pa.int32(), 2), pa.large_list(pa.int64())),
    ],
)
def test_values_stay_what_they_were(values, kind, to):
    made = cast(pa.chunked_array([pa.array(values, kind)]), to)
    assert made.type == to
    stored = [value if not isinstance(value, dict) else {"b": None, **value} for value in values]
    assert made.to_pylist() == stored


def test_views_are_taken_out_of_every_type():
    view = pa.string_view()
    assert plain_type(pa.struct([("a", pa.list_(view)), ("b", pa.binary_view())])) == pa.struct(
        [("a", pa.list_(TEXT)), ("b", pa.binary())]
    )
    assert plain_type(pa.map_(view, view)) == pa.map_(TEXT, TEXT)
    assert plain_type(pa.list_(view, 2)) == pa.list_(TEXT, 2)
    assert plain_type(pa.list_view(view)) == pa.list_(TEXT)
    assert plain_type(pa.json_(view)) == TEXT
    for kind in (pa.list_view(pa.int8()), pa.uint64(), pa.uuid(), STRUCT, DICTIONARY):
        assert plain_type(kind) == kind


@pytest.fixture
def unlike(tmp_path):
    """Return two shards that differ in all the ways that writers of one data set differ."""
    images = photos(4)
    struct = [{"bytes": image, "path": None} for image in images]
    first = pa.table(
        {
            "image": pa.array(struct[:2], STRUCT),
            "label": pa.array([0, 1], pa.int32()),
            "name": pa.array(["a", "b"], pa.string_view()),
            "kind": pa.array(["x", "y"], DICTIONARY),
            "note": pa.nulls(2),
            "tags": pa.array([["p"], []], pa.list_(TEXT)),
            "count": pa.array([2**64 - 1, 0], pa.uint64()),
        }
    )
    second = pa.table(
        {
            "label": pa.array([2, 3], pa.int64()),
            "image": pa.array(struct[2:], pa.struct([("path", pa.null()), ("bytes", pa.large_binary())])),
            "name": pa.array(["c", None], LARGE),
            "kind": pa.array(["z", "x"]),
            "note": pa.array(["q", "r"]),
            "tags": pa.array([["s", "t"], None], pa.large_list(pa.field("element", LARGE, False))),
            "only": pa.array([1.5, 2.5]),
        }
    )
    features = {"label": {"_type": "ClassLabel", "names": list("abcd")}, "note": {"_type": "Value", "dtype": "null"}}
    first = first.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    for place, table in enumerate((first, second)):
        pq.write_table(table, tmp_path / f"{place}.parquet")
    return find_shards(str(tmp_path), "/"), images


def test_shards_that_differ_a_little_are_read_as_one(unlike):
    shards, images = unlike
    layout = read_layout(shards, Columns(), ())
    assert layout.schema.names == ["image", "label", "name", "kind", "note", "tags", "count", "only"]
    tables, rows = [], []
    for shard in shards:
        for table, some in read_windows(shard, layout, 0, 2, 1):
            assert table.schema == layout.schema
            tables.append(table)
            rows += some
    whole = pa.concat_tables(tables).to_pydict()
    assert [row.data for row in rows] == images
    assert [row.label for row in rows] == whole["label"] == [0, 1, 2, 3]
    assert whole["name"] == ["a", "b", "c", None]
    assert whole["kind"] == ["x", "y", "z", "x"]
    assert whole["note"] == [None, None, "q", "r"]
    assert whole["tags"] == [["p"], [], ["s", "t"], None]
    assert whole["count"] == [2**64 - 1, 0, None, None]
    assert whole["only"] == [None, None, 1.5, 2.5]
    features = json.loads(layout.schema.metadata[b"huggingface"])["info"]["features"]
    assert list(features) == ["label"]  # `note` is no longer null


def test_drop_works_on_all_columns_together(unlike):
    shards, _ = unlike
    assert "only" not in read_layout(shards, Columns(), ("only", "tags")).schema.names
    with pytest.raises(InputError, match="no column 'onyl', did you mean 'only'"):
        read_layout(shards, Columns(), ("onyl",))


def test_only_what_is_promoted_counts_as_promoted(unlike, tmp_path):
    shards, _ = unlike
    assert promoted_shards(shards, read_layout(shards, Columns(), ()).schema) == {"0.parquet", "1.parquet"}
    alone = read_layout(shards[:1], Columns(), ())
    assert promoted_shards(shards[:1], alone.schema) == frozenset()  # a view is no other shard's doing
    wider = ("note", "name", "kind", "tags", "only", "count", "image")
    labels = read_layout(shards, Columns(image="image"), tuple(name for name in wider if name != "image"))
    assert "1.parquet" in promoted_shards(shards, labels.schema)


def test_what_cannot_be_made_one_names_both_and_never_drops_the_label(tmp_path):
    for name, labels in (("a", [1]), ("b", ["1"])):
        pq.write_table(pa.table({"image": photos(1), "label": labels}), tmp_path / f"{name}.parquet")
    with pytest.raises(InputError, match=r"'label' is int64 in .*a\.parquet and string in .*b\.parquet") as caught:
        read_layout(find_shards(str(tmp_path), "/"), Columns(), ())
    assert "write it alike in every shard" in str(caught.value)
    assert "drop" not in str(caught.value)


def test_a_shard_without_the_image_is_named(tmp_path):
    pq.write_table(pa.table({"image": photos(1), "label": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"label": [1]}), tmp_path / "b.parquet")
    with pytest.raises(InputError, match=r"b\.parquet: it has no column 'image'"):
        read_layout(find_shards(str(tmp_path), "/"), Columns(), ())
