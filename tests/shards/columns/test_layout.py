"""Layout: columns found by themselves, named by hand, and the errors in between."""

import json
import pickle

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError
from pipeline.shards.columns.layout import read_layout
from pipeline.shards.files.discovery import find_shards
from schemas.recipe import Columns
from tests.fixtures.shard_files import STRUCT, photos, write_shard

BINARY, TEXT, NUMBER, FLOATS = pa.binary(), pa.string(), pa.int64(), pa.list_(pa.float32())
IMAGE = {"_type": "Image"}


def class_label(*names):
    return {"names": list(names), "_type": "ClassLabel"}


@pytest.fixture
def layout_of(tmp_path):
    """Return the layout of a one-row shard of null values with the given column types and Hugging Face features."""

    def read(types, features=None, columns=None, drop=()):
        schema = pa.schema([pa.field(name, kind) for name, kind in types.items()])
        if features is not None:
            schema = schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        pq.write_table(pa.table([pa.nulls(1, kind) for kind in types.values()], schema=schema), tmp_path / "a.parquet")
        return read_layout(find_shards("a.parquet", str(tmp_path)), columns or Columns(), drop)

    return read


@pytest.mark.parametrize(
    ("types", "image", "kind"),
    [
        ({"image": STRUCT, "label": NUMBER}, "image", "struct"),
        ({"picture_of_it": STRUCT, "thumb": BINARY}, "picture_of_it", "struct"),
        ({"whatever": pa.large_binary(), "y": NUMBER}, "whatever", "bytes"),
        ({"jpg": BINARY, "embedding_bytes": BINARY}, "jpg", "bytes"),
        ({"image": BINARY, "jpg": BINARY}, "image", "bytes"),
        ({"Image": BINARY, "other": BINARY}, "Image", "bytes"),
        ({"file_name": TEXT, "label": TEXT}, "file_name", "path"),
        ({"image": pa.large_string(), "filename": TEXT}, "image", "path"),
        ({"image": STRUCT, "mask": STRUCT}, "image", "struct"),
        ({"image": pa.struct([("bytes", pa.large_binary())])}, "image", "struct"),
        ({"image": pa.struct([("bytes", pa.binary()), ("path", pa.null())])}, "image", "struct"),
    ],
)
def test_the_image_column_is_found(layout_of, types, image, kind):
    layout = layout_of(types)
    assert (layout.image, layout.image_kind) == (image, kind)


def test_the_image_feature_comes_first(layout_of):
    layout = layout_of({"image": STRUCT, "scan": STRUCT}, {"scan": IMAGE})
    assert layout.image == "scan"
    assert layout_of({"scan": BINARY, "image": BINARY}, {"scan": IMAGE}).image_kind == "bytes"


def test_an_ambiguous_image_is_an_error_that_lists_the_candidates(layout_of):
    with pytest.raises(InputError, match=r"input\.columns\.image: left, right could each be the image"):
        layout_of({"left": STRUCT, "right": STRUCT})
    assert layout_of({"left": STRUCT, "right": STRUCT}, columns=Columns(image="right")).image == "right"
    assert layout_of({"left": STRUCT, "right": STRUCT}, drop=("left",)).image == "right"


def test_no_image_is_an_error(layout_of):
    with pytest.raises(InputError, match=r"input\.columns\.image: no column looks like an image"):
        layout_of({"label": NUMBER, "mask": STRUCT})


@pytest.mark.parametrize(
    ("types", "features", "label", "classes"),
    [
        ({"image": STRUCT, "label": NUMBER}, {"label": class_label("cat", "dog")}, "label", ("cat", "dog")),
        ({"image": STRUCT, "kind": NUMBER}, {"kind": class_label("cat", "dog")}, "kind", ("cat", "dog")),
        ({"image": STRUCT, "kind": NUMBER, "label": NUMBER}, {"kind": class_label("a")}, "kind", ("a",)),
        (
            {"image": STRUCT, "fine_label": NUMBER, "coarse_label": NUMBER},
            {"fine_label": class_label("a", "b"), "coarse_label": class_label("x")},
            "fine_label",
            ("a", "b"),
        ),
        ({"image": STRUCT, "label": NUMBER}, {"label": {"names": {"1": "b", "0": "a"}, "_type": "ClassLabel"}}, "label",
         ("a", "b")),
        ({"image": STRUCT, "label": NUMBER}, {"label": {"num_classes": 3, "_type": "ClassLabel"}}, "label", None),
        ({"image": STRUCT, "Category": TEXT}, None, "Category", None),
        ({"image": STRUCT, "y": pa.bool_()}, None, "y", None),
        ({"image": STRUCT, "target": pa.dictionary(pa.int32(), TEXT)}, None, "target", None),
        ({"image": STRUCT, "label": NUMBER, "class": NUMBER}, None, "label", None),
        ({"image": STRUCT, "caption": TEXT}, None, None, None),
    ],
)  # fmt: skip
def test_the_label_and_its_classes(layout_of, types, features, label, classes):
    layout = layout_of(types, features)
    assert (layout.label, layout.classes) == (label, classes)


def test_labels_that_cannot_be(layout_of):
    with pytest.raises(InputError, match=r"label: column 'labels' is list.*input\.columns: {label: none}"):
        layout_of({"image": STRUCT, "labels": pa.list_(NUMBER)})
    with pytest.raises(InputError, match="column 'score' is decimal"):
        layout_of({"image": STRUCT, "score": pa.decimal128(9, 2)}, columns=Columns(label="score"))
    with pytest.raises(InputError, match="class, target could each be the label"):
        layout_of({"image": STRUCT, "class": NUMBER, "target": NUMBER})
    assert layout_of({"image": STRUCT, "labels": pa.list_(NUMBER)}, drop=("labels",)).label is None
    kept = layout_of({"image": STRUCT, "labels": pa.list_(NUMBER)}, columns=Columns(label="none"))
    assert kept.label is kept.carried_label is None and "labels" in kept.light
    kept = layout_of({"image": STRUCT, "label": pa.list_(NUMBER)}, columns=Columns(label="none"))
    assert (kept.label, kept.carried_label, kept.table.kind) == (None, "label", "none")
    assert layout_of({"image": STRUCT, "none": NUMBER, "label": TEXT}, columns=Columns(label="none")).label == "none"


@pytest.mark.parametrize(
    ("types", "found"),
    [
        ({"image": STRUCT, "id": NUMBER, "uuid": TEXT}, "id"),
        ({"image": STRUCT, "uuid": TEXT, "filename": TEXT}, "uuid"),
        ({"image": STRUCT, "file_name": TEXT}, "file_name"),
        ({"image": STRUCT, "id": FLOATS}, None),
        ({"path": TEXT, "label": TEXT}, None),
        ({"image": STRUCT, "key": TEXT, "label": TEXT}, "key"),
    ],
)
def test_the_id_column(layout_of, types, found):
    assert layout_of(types).id == found


def test_an_ambiguous_or_impossible_id(layout_of):
    with pytest.raises(InputError, match=r"input\.columns\.id: uid, key could each be the id"):
        layout_of({"image": STRUCT, "uid": TEXT, "key": TEXT})
    with pytest.raises(InputError, match="an id is a string or an integer"):
        layout_of({"image": STRUCT, "uid": FLOATS}, columns=Columns(id="uid"))


def test_a_named_column_that_is_not_there(layout_of):
    types = {"image": STRUCT, "label": NUMBER}
    with pytest.raises(InputError, match=r"input\.columns\.label: .*'lable', did you mean 'label'\?.*: image, label"):
        layout_of(types, columns=Columns(label="lable"))
    with pytest.raises(InputError, match=r"input\.drop: there is no column 'zzz'; The columns are: image, label"):
        layout_of(types, drop=("zzz",))
    with pytest.raises(InputError, match=r"input\.drop: 'label' is also input\.columns\.label"):
        layout_of(types, columns=Columns(label="label"), drop=("label",))
    with pytest.raises(InputError, match="column 'label' is int64; it must hold encoded images"):
        layout_of(types, columns=Columns(image="label"))


def test_light_columns(layout_of):
    types = {
        "image": STRUCT, "objects": pa.struct([("bbox", pa.list_(FLOATS))]), "Keypoints": FLOATS, "eye_mask": STRUCT,
        "mask_id": NUMBER, "thumb": BINARY, "label": NUMBER, "notes": TEXT, "views": pa.list_(STRUCT),
    }  # fmt: skip
    layout = layout_of(types, {"image": IMAGE, "eye_mask": IMAGE})
    assert layout.light == ("objects", "Keypoints", "eye_mask", "mask_id", "label", "notes")
    assert layout_of({"file": TEXT, "label": TEXT}).light == ("file", "label")


def test_the_schema_keeps_metadata_without_dropped_columns(layout_of):
    layout = layout_of({"image": STRUCT, "label": NUMBER, "notes": TEXT}, {"image": IMAGE}, drop=("notes",))
    assert layout.schema.names == ["image", "label"]
    assert b"huggingface" in layout.schema.metadata
    assert pickle.loads(pickle.dumps(layout)) == layout


@pytest.mark.parametrize("metadata", ["{", "[]", "{}", '{"info": null}', '{"info": {"features": 3}}'])
def test_metadata_that_says_nothing(tmp_path, metadata):
    schema = pa.schema([("image", STRUCT), ("label", NUMBER)], metadata={"huggingface": metadata})
    pq.write_table(pa.table([pa.nulls(1, STRUCT), pa.nulls(1, NUMBER)], schema=schema), tmp_path / "a.parquet")
    layout = read_layout(find_shards(str(tmp_path), "/"), Columns(), ())
    assert (layout.image, layout.label, layout.classes) == ("image", "label", None)


def test_two_columns_of_one_name(tmp_path):
    table = pa.table([pa.nulls(1, STRUCT), pa.array([1]), pa.array([2])], names=["image", "label", "label"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(InputError, match="two columns are named 'label'"):
        read_layout(find_shards(str(tmp_path), "/"), Columns(), ())


def test_shards_that_cannot_be_made_alike_are_named(tmp_path):
    images = photos(2, 8, 8)
    write_shard(tmp_path / "a.parquet", images, labels=[0, 1], class_names=["x", "y"])
    write_shard(tmp_path / "b.parquet", images, labels=[0, 1])
    assert read_layout(find_shards(str(tmp_path), "/"), Columns(), ()).classes == ("x", "y")
    write_shard(tmp_path / "c.parquet", images, labels=["x", "y"])
    with pytest.raises(InputError, match=r"'label' is int64 in .*a\.parquet and string in .*c\.parquet"):
        read_layout(find_shards(str(tmp_path), "/"), Columns(), ())
    write_shard(tmp_path / "c.parquet", images, labels=[0, 1], extra={"notes": ["p", "q"]})
    layout = read_layout(find_shards(str(tmp_path), "/"), Columns(), ())
    assert (layout.schema.field("notes").type, layout.schema.field("notes").nullable) == (pa.string(), True)
    assert "notes" not in read_layout(find_shards(str(tmp_path), "/"), Columns(), ("notes",)).schema.names


def test_shards_must_have_the_same_classes(tmp_path):
    images = photos(2, 8, 8)
    write_shard(tmp_path / "a.parquet", images, labels=[0, 1])
    write_shard(tmp_path / "b.parquet", images, labels=[0, 1], class_names=["x", "y"])
    write_shard(tmp_path / "c.parquet", images, labels=[0, 1], class_names=["y", "x"])
    with pytest.raises(InputError, match=r"the classes are x, y in .*b\.parquet and y, x in .*c\.parquet"):
        read_layout(find_shards(str(tmp_path), "/"), Columns(), ())


def test_column_order_may_differ(tmp_path):
    for name, order in (("a", ["image", "label"]), ("b", ["label", "image"])):
        path = write_shard(tmp_path / f"{name}.parquet", photos(1, 8, 8), labels=[0])
        pq.write_table(pq.read_table(path).select(order), path)
    assert read_layout(find_shards(str(tmp_path), "/"), Columns(), ()).schema.names == ["image", "label"]
