"""Annotations: known by what they hold, by their names, and where both leave it open by their values."""

import base64
import json

import pyarrow as pa
import pytest

from pipeline.shards.columns.annotation_columns import annotation_columns
from tests.fixtures.shard_files import STRUCT, photos

PICTURE = photos(1, 24, 32)[0]
SIZE = (200, 100)
FLOATS, NESTED = pa.list_(pa.float32()), pa.list_(pa.list_(pa.float32()))
BOX, CORNERS = [150.0, 10.0, 40.0, 20.0], [10, 20, 190, 90]


def found(columns, features=None, apart=("image", "label")):
    """Return the annotations among columns {name: (type, value of every row)}, of two rows of images 200 x 100."""
    schema = pa.schema([pa.field("image", STRUCT), pa.field("label", pa.int64())])
    for name, (kind, _) in columns.items():
        schema = schema.append(pa.field(name, kind))
    rows = {name: pa.array([value] * 2, kind).to_pylist() for name, (kind, value) in columns.items()}
    return annotation_columns(schema, features or {}, apart, rows, [SIZE] * 2)


@pytest.mark.parametrize(
    ("name", "kind", "value"),
    [
        ("annotation", STRUCT, {"bytes": PICTURE, "path": None}),
        ("depth_map", STRUCT, None),
        ("conditioning_image", STRUCT, {"bytes": PICTURE, "path": None}),
        ("instances", pa.list_(STRUCT), [{"bytes": PICTURE, "path": None}]),
        ("whatever", pa.binary(), PICTURE),
        ("whatever", pa.large_binary(), PICTURE),
        ("eye_mask", pa.binary(), b"\0\1"),
        ("eye_mask", pa.binary(2), b"\0\1"),
        ("control", pa.string(), base64.b64encode(PICTURE).decode()),
        ("control", pa.string(), "data:image/png;base64,iVBORw0KGgo="),
    ],
)
def test_images_beside_the_image(name, kind, value):
    assert list(found({name: (kind, value)})) == [name]


def test_an_image_feature_is_one_whatever_it_is_stored_as():
    assert found({"other": (pa.string(), "x")}, {"other": {"_type": "Image"}}) == {"other": "images"}


@pytest.mark.parametrize(
    ("name", "kind", "value"),
    [
        ("gt_boxes", NESTED, [[3, 4, 10, 12]]),
        ("detections", NESTED, [[3, 4, 10, 12, 0.5, 1]]),
        ("gold", NESTED, [[3, 4, 10, 12]]),
        ("gold", NESTED, []),
        ("gold", pa.large_list(pa.list_(pa.int16(), 2)), [[3, 4], [5, 6]]),
        ("parts", NESTED, [[3, 4, 10, 12, 100, 90, 7, 8]]),
        ("labels_of_pixels", pa.list_(pa.list_(pa.uint8())), [[0] * 200] * 100),
        ("coarse", NESTED, [[0.0] * 20] * 10),
        ("bbox", FLOATS, [1, 2, 3, 4]),
        ("faceBox", FLOATS, [1, 2, 3, 4]),
        ("roi", pa.list_(pa.int32(), 4), [1, 2, 3, 4]),
        ("landmarks", FLOATS, [3, 4]),
        ("keypoints_2d", FLOATS, None),
        ("kpts", FLOATS, [3, 4, 1]),
        ("where", FLOATS, BOX),
        ("where", pa.list_(pa.int64()), CORNERS),
        ("where", FLOATS, [0.2, 0.3, 0.4, 0.9]),
        ("where", FLOATS, [10, 10, 150, 12, 148, 90, 9, 88]),
        ("gt", pa.list_(pa.struct([("xmin", pa.int64()), ("ymin", pa.int64())])), [{"xmin": 1, "ymin": 2}]),
        ("things", pa.struct([("bbox", NESTED), ("category", pa.list_(pa.int64()))]), {"bbox": [], "category": []}),
        ("box3", pa.struct([("x", pa.int32()), ("y", pa.int32()), ("w", pa.int32())]), {"x": 1, "y": 2, "w": 3}),
        ("seg", pa.struct([("counts", pa.string()), ("size", pa.list_(pa.int64()))]), None),
        ("things", pa.map_(pa.string(), FLOATS), [("a", BOX)]),
        ("mask", pa.string(), "masks/1.png"),
        ("note", pa.string(), json.dumps({"bbox": BOX})),
        ("note", pa.string(), json.dumps([[3, 4, 10, 12]])),
        ("note", pa.string(), "<annotation><object><bndbox><xmin>1</xmin></bndbox></object></annotation>"),
        ("note", pa.string(), "0 0.5 0.5 0.25 0.25\n3 0.1 0.1 0.2 0.2"),
        ("note", pa.string(), "(150, 10, 40, 20)"),
        ("note", pa.string(), "10,10 150,12 148,90 9,88"),
        ("note", pa.string(), "[[ 3  4]\n [ 10 12]]"),
        ("note", pa.string(), "[(3, 4), (10, 12)]"),
        ("note", pa.string(), "[{'bbox': [150, 10, 40, 20]}]"),
        ("note", pa.string(), '{"BoundingBox": {"Width": 0.1, "Height": 0.2, "Left": 0.3, "Top": 0.4}}'),
        ("inside", pa.list_(pa.list_(pa.bool_())), [[True, False] * 100] * 100),
        ("inside", pa.list_(pa.bool_()), [True, False] * 10_000),
        ("mask", pa.list_(pa.bool_()), [True, False]),
        ("inside", pa.list_(pa.uint8()), [0] * 20_000),
        ("inside", pa.list_(pa.list_(pa.list_(pa.uint8()))), [[[1]] * 200] * 100),
        ("inside", pa.list_(pa.list_(pa.list_(pa.uint8()))), [[[1] * 50] * 25] * 9),
        ("inside", pa.fixed_shape_tensor(pa.float32(), (25, 50)), [0.0] * 1250),
        ("lanes", NESTED, [[-2, -2, -2, 40, 41, 42, 43]]),
        ("strokes", pa.list_(pa.list_(pa.list_(pa.int32()))), [[[1, 2, 3, 4, 5, 6, 7], [1, 2, 3, 4, 5, 6, 7]]]),
        ("conditioning", pa.string(), "edges/1.png"),
    ],
)
def test_boxes_points_and_masks(name, kind, value):
    assert found({name: (kind, value)}) == {name: "boxes, points or masks"}


@pytest.mark.parametrize(
    "names",
    [
        ["xmin"], ["x_min", "y_max"], ["XMin", "YMin"], ["minX"], ["xtl", "ytl"], ["bbox_x1"], ["box_w", "box_h"],
        ["bbox_left"], ["x1", "y1", "x2", "y2"], ["x", "y", "w", "h"], ["cx", "cy", "width", "height"],
        ["left", "top", "right", "bottom"], ["left", "top", "width", "height"], ["nose_x", "nose_y"],
        ["leftEyeX", "leftEyeY"], ["x_center", "y_center"], ["face_top"], ["crop_left", "crop_top", "crop_bottom"],
        ["x_1", "y_1", "width", "height"], ["xmin", "ymin", "w", "h"], ["lefteyex", "lefteyey"], ["tlx", "tly"],
        ["landmark_0"], ["keypoints_17"], ["kp3"],
    ],
)  # fmt: skip
def test_coordinates_that_stand_alone(names):
    assert found({name: (pa.float64(), 3.0) for name in names}) == dict.fromkeys(names, "coordinates")


@pytest.mark.parametrize(
    ("name", "kind", "value"),
    [
        ("embedding", FLOATS, [0.1, -0.4, 0.2, 0.3]),
        ("embedding", FLOATS, [0.25] * 768),
        ("clip_emb", FLOATS, [0.25] * 20_000),
        ("whitened", pa.fixed_shape_tensor(pa.float32(), (3, 7)), [0.25] * 21),
        ("flags", pa.list_(pa.bool_()), [True, False, True, True]),
        ("sha256", pa.binary(4), b"\0\1\2\3"),
        ("token_embeddings", NESTED, [[0.1, -0.2, 0.3, 0.4, 0.1, 0.0, 0.5]] * 3),
        ("probabilities", FLOATS, [0.1, 0.2, 0.3, 0.4]),
        ("one_hot", FLOATS, [0, 0, 1, 0]),
        ("ratings", FLOATS, [5, 4, 3, 5, 1, 2]),
        ("attention_mask", pa.list_(pa.int64()), [1, 1, 0, 0]),
        ("input_ids", pa.list_(pa.int64()), [101, 2003, 17, 102]),
        ("mask_id", pa.int64(), 3),
        ("num_boxes", pa.int64(), 3),
        ("is_masked", pa.bool_(), True),
        ("x", pa.float64(), 1.0),
        ("left", pa.string(), "a"),
        ("depth", pa.float64(), 1.5),
        ("width", pa.int64(), 200),
        ("size", pa.struct([("width", pa.int64()), ("height", pa.int64())]), None),
        ("caption", pa.string(), "a box at (3, 4)"),
        ("date", pa.string(), "2026-11-27"),
        ("objects", pa.list_(pa.string()), ["cat", "dog"]),
        ("annotation", pa.string(), "a cat on a mat"),
        ("phone", pa.string(), "555 1234"),
        ("blob", pa.binary(), b"BM is how this text begins"),
        ("tags", pa.list_(pa.string()), None),
        ("note", pa.string(), "1e999 0.5 0.5 0.5 0.5"),
        ("note", pa.string(), "[" * 5000),
        ("vector", FLOATS, [float("nan")] * 4),
        ("vector", FLOATS, [None] * 4),
    ],
)
def test_what_is_none(name, kind, value):
    assert found({name: (kind, value)}) == {}


@pytest.mark.parametrize(
    "corners", [["xmin", "ymin", "xmax", "ymax"], ["x1", "y1", "x2", "y2"], ["left", "top", "right", "bottom"]]
)
def test_a_width_beside_both_corners_is_the_image_s(corners):
    names = [*corners, "width", "height"]
    assert set(found({name: (pa.int64(), 200) for name in names})) == set(corners)


def test_other_columns_that_end_alike_are_no_coordinates():
    assert found({name: (pa.int64(), 3) for name in ("max", "may", "index", "tax")}) == {}


def test_columns_apart_are_none():
    columns = {"thumb": (STRUCT, None), "y": (pa.int64(), 1), "x": (pa.int64(), 1)}
    assert list(found(columns)) == ["thumb", "y", "x"]
    assert found(columns, apart=("image", "label", "thumb", "y")) == {}


@pytest.mark.parametrize(
    ("name", "kind", "value"),
    [
        ("centroid", FLOATS, [3, 4]),
        ("gaze", FLOATS, [0.5, 0.25]),
        ("facial_points", FLOATS, [3, 4, 0.9]),
        ("position", FLOATS, [199, 99]),
        ("named", pa.map_(pa.string(), FLOATS), [("nose", [3, 4]), ("chin", [5, 9])]),
        ("seg_file", pa.string(), "masks/0.PNG"),
        ("annotation_path", pa.string(), "a.xml"),
        ("shapes", pa.string(), '[{"x": 1, "y": 2, "width": 3, "height": 4}]'),
        ("shapes", pa.string(), '{"left": 1.5, "top": 2}'),
        ("regions", pa.string(), '{"all_points_x": [1, 2], "all_points_y": [2, 3]}'),
        (
            "saved",
            pa.binary(),
            b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'shape': (100, 200), }",
        ),
    ],
)
def test_points_files_and_maps_by_name_and_value(name, kind, value):
    assert list(found({name: (kind, value)})) == [name]


@pytest.mark.parametrize(
    ("name", "kind", "value"),
    [
        ("gps_coords", FLOATS, [48.1, 11.5]),
        ("coords", FLOATS, [4800.0, 1100.0]),
        ("location", pa.string(), "Berlin"),
        ("points", pa.int64(), 3),
        ("annotator_ids", pa.list_(pa.int64()), [3, 4, 10, 12]),
        ("votes", pa.list_(pa.int64()), [3, 0, 1, 6, 12, 3]),
        ("file_name", pa.string(), "a.png"),
        ("object_path", pa.string(), None),
        ("where_taken", pa.string(), '{"lat": 1, "lon": 2}'),
        ("saved", pa.binary(), b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'shape': (512,), }"),
    ],
)
def test_what_only_sounds_like_a_place(name, kind, value):
    assert found({name: (kind, value)}) == {}


@pytest.mark.parametrize(
    ("names", "value", "taken"),
    [
        (("px", "py"), 3, True),
        (("x_left", "y_top"), 3, True),
        (("bbox_0", "bbox_1"), 3, True),
        (("map_x", "map_y"), 3, True),
        (("map_x", "map_y"), 450_000, False),
        (("xmin", "ymin"), 450_000, True),
        (("nose_x", "nose_y"), 450_000, True),
    ],
)
def test_coordinates_of_the_image_and_of_a_map(names, value, taken):
    assert list(found({name: (pa.float64(), value) for name in names})) == (list(names) if taken else [])
