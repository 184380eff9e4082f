"""The right column: what is taken for the image, what stops the run, and images as lists and as text."""

import base64
import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError
from pipeline.shards.columns.layout import read_layout
from pipeline.shards.files.discovery import find_shards
from pipeline.shards.images.text_images import image_in_bytes, image_in_text
from pipeline.shards.reader import read_windows
from schemas.recipe import Columns
from tests.fixtures.shard_files import STRUCT, photos

IMAGES = photos(3)
HELD = [{"bytes": image, "path": None} for image in IMAGES]
ONE = pa.array([[held] for held in HELD], pa.list_(STRUCT))
TWO = pa.array([[held, held] for held in HELD], pa.list_(STRUCT))
BASE64 = [base64.b64encode(image).decode() for image in IMAGES]
PIXELS = pa.array(np.zeros((3, 4, 4), np.uint8).tolist(), pa.list_(pa.list_(pa.uint8())))
TENSOR = pa.ExtensionArray.from_storage(
    pa.fixed_shape_tensor(pa.uint8(), [2, 2]), pa.array([[1, 2, 3, 4]] * 3, pa.list_(pa.uint8(), 4))
)
SHA = [os.urandom(32) for _ in range(3)]
SMALL = photos(3, 8, 8)


@pytest.fixture
def read(tmp_path):
    """Return a function: the layout of a shard of these columns, and its rows."""

    def made(columns, features=None, **named):
        table = pa.table({**columns, "label": [0, 1, 0]})
        if features is not None:
            table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        pq.write_table(table, tmp_path / "a.parquet")
        shards = find_shards("a.parquet", str(tmp_path))
        layout = read_layout(shards, Columns(**named), ())
        ((_, rows),) = read_windows(shards[0], layout, 0, 3, 8)
        return layout, rows

    return made


@pytest.mark.parametrize(
    "columns",
    [
        {"images": ONE},
        {"images": ONE, "image_embedding": [[0.5]] * 3},
        {"images": pa.array([[image] for image in IMAGES], pa.list_(pa.binary()))},
        {"image": BASE64},
        {"image_base64": BASE64, "thumbnail": SMALL},
        {"data": [f"data:image/png;base64,{text}" for text in BASE64]},
        {"image": [text.encode() for text in BASE64]},
        {"image": pa.array([{"bytes": text.encode()} for text in BASE64])},
        {"image": [base64.urlsafe_b64encode(image).decode().rstrip("=") for image in IMAGES]},
        {"image": [base64.encodebytes(image).decode() for image in IMAGES]},
        {"image": pa.array(BASE64, pa.large_string())},
        {"image": pa.array(BASE64, pa.string_view())},
        {"image": pa.array(IMAGES, pa.binary_view())},
        {"image": pa.array(BASE64).dictionary_encode()},
        {"image": pa.array(IMAGES).dictionary_encode()},
        {"images": [[text] for text in BASE64]},
        {"x": BASE64, "note": ["a"] * 3},
        {"image": [{"bytes": text, "path": None} for text in BASE64]},
        {"image": pa.array([{"bytes": None, "path": f"data:;base64,{text}"} for text in BASE64], STRUCT)},
        {"image": [[f"data:image/png;base64,{text}"] for text in BASE64]},
        {"images": pa.array([[image] for image in IMAGES], pa.list_view(pa.binary()))},
        {"scan": IMAGES, "thumbnail": SMALL},
        {"photo": IMAGES, "depth_map": PIXELS},
        {"image": IMAGES, "images": TWO},
        {"image": IMAGES, "pixels": PIXELS},
        {"image": IMAGES, "sha256": SHA, "image_embedding": SHA, "image_size": [[4, 4]] * 3},
        {"scan": IMAGES, "landmarks": pa.array([[[1.0, 2.0]]] * 3)},
    ],
    ids=lambda columns: "+".join(columns),
)
def test_the_image_is_found_and_read(read, columns):
    layout, rows = read(columns)
    assert layout.image == next(iter(columns))
    assert [row.data for row in rows] == IMAGES
    assert layout.image not in layout.light


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"images": TWO}, r"'images' holds several images a row; .*df\.explode\('images'\)"),
        ({"images": TWO, "thumbnail": SMALL}, "'images' holds several images a row"),
        ({"images": TWO, "sha256": SHA}, "'images' holds several images a row.*'sha256' is the image"),
        ({"images": ONE, "thumbnail": SMALL}, "'images' holds lists of one image, and 'thumbnail' holds bytes"),
        ({"images": ONE, "sha256": SHA}, "'images' holds lists of one image.*say input.columns.image: images"),
        ({"scan": SMALL, "images": TWO}, "column 'images' looks like the image, and holds several.*image: scan"),
        ({"scan": SMALL, "views": TWO}, "column 'views' looks like the image"),
        ({"blob": SMALL, "image": PIXELS}, r"column 'image' looks like the image, and holds pixels.*Image\.fromarray"),
        ({"path": ["a", "b", "c"], "image": PIXELS}, "column 'image' looks like the image, and holds pixels"),
        ({"blob": SMALL, "image": TENSOR}, "column 'image' looks like the image, and holds pixels"),
        ({"blob": SMALL, "pixels": [[1, 2]] * 3}, "column 'pixels' looks like the image, and holds pixels"),
        ({"blob": SMALL, "image": pa.array([{"array": [1], "shape": [1]}] * 3)}, "'image' looks like the image"),
        ({"blob": SMALL, "image": pa.array([{"data": b"x", "height": 1}] * 3)}, "struct of other fields"),
        ({"blob": SMALL, "image": ["a.png", "b.png", "c.png"]}, "blob, image could each be the image"),
        ({"blob": SMALL, "image": pa.array([{"url": "x", "height": 1}] * 3)}, "struct of other fields"),
        ({"blob": SMALL, "images": [["a.png"]] * 3}, "blob, images could each be the image"),
        ({"blob": SMALL, "images": [[BASE64[0], BASE64[1]]] * 3}, "'images' looks like the image, and holds several"),
        ({"images": [[text] for text in BASE64], "blob": SMALL}, "images, blob could each be the image"),
        ({"blob": SMALL, "images": [[[image]] for image in IMAGES]}, "'images' looks like the image.*inside of list"),
        ({"blob": SMALL, "images": [[{"url": "x"}]] * 3}, "'images' looks like the image.*inside of list"),
        ({"image": PIXELS}, "no column looks like an image.*'image' holds pixels as numbers"),
        (
            {"image_url": ["https://h/a.png"] * 3},
            "names of image files or their URLs, say input.columns.image: image_url",
        ),
        ({"sha256": SHA}, "no column looks like an image.*say input.columns.image: sha256"),
        ({"thumbnail": SMALL}, "no column looks like an image.*say input.columns.image: thumbnail"),
        ({"scan": SMALL, "blob": SMALL}, "scan, blob could each be the image"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_what_is_no_sure_choice_stops_the_run(read, columns, message):
    with pytest.raises(InputError, match=message) as caught:
        read(columns)
    assert "\n" not in str(caught.value)


def test_what_the_recipe_names_is_taken(read):
    assert [row.data for row in read({"images": ONE, "sha256": SHA}, image="images")[1]] == IMAGES
    assert read({"scan": SMALL, "images": TWO}, image="scan")[0].image == "scan"
    assert read({"scan": SMALL, "image_tags": [["a", "b"]] * 3})[0].image == "scan"
    layout, rows = read({"images": [["a.png"], [None], []]})
    assert (layout.image_kind, [row.link for row in rows]) == ("path", ["a.png", None, None])
    assert [row.data for row in read({"thumbnail": SMALL}, image="thumbnail")[1]] == SMALL
    with pytest.raises(InputError, match=r"input\.columns\.image: column 'images' holds several images a row"):
        read({"scan": SMALL, "images": TWO}, image="images")
    with pytest.raises(InputError, match=r"column 'image' is list.*it must hold encoded images.*encode each image"):
        read({"image": PIXELS}, image="image")


def test_sound_and_arrays_by_their_features(read):
    assert read({"clip": HELD, "scan": HELD}, {"clip": {"_type": "Audio"}})[0].image == "scan"
    cube = pa.array(np.zeros((3, 2, 2, 3), np.int32).tolist())
    with pytest.raises(InputError, match="holds pixels as numbers"):
        read({"cube": cube}, {"cube": {"_type": "Array3D", "shape": [2, 2, 3], "dtype": "int32"}})


def test_rows_that_differ_from_the_first(read):
    late = pa.array([[HELD[0]], [], [HELD[1], HELD[2]]], pa.list_(STRUCT))
    rows = read({"images": pa.concat_arrays([late.slice(0, 1), pa.nulls(1, late.type), late.slice(1, 1)])})[1]
    assert [row.error and row.error.code for row in rows] == [None, "null_image", "null_image"]
    _, rows = read({"image": [BASE64[0], None, "data:image/png;base64,%%%"]}, image="image")
    assert rows[0].data == IMAGES[0]
    layout, rows = read({"image": [BASE64[0], "", f"data:image/png;base64,{BASE64[1]}"]})
    assert (layout.image_kind, [row.error and row.error.code for row in rows]) == ("text", [None, "null_image", None])
    assert rows[2].data == IMAGES[1]


def test_a_list_of_several_behind_the_first_rows_is_an_error_of_its_row(tmp_path):
    lists = [[HELD[0]]] * 20 + [[HELD[1], HELD[2]]]
    pq.write_table(pa.table({"images": pa.array(lists, pa.list_(STRUCT))}), tmp_path / "a.parquet")
    shards = find_shards("a.parquet", str(tmp_path))
    ((_, rows),) = read_windows(shards[0], read_layout(shards, Columns(), ()), 0, 21, 64)
    assert [row.row for row in rows if row.error is not None] == [20]
    assert str(rows[20].error) == "several_images: the row holds 2 images; make a row of each"


@pytest.mark.parametrize(
    "text",
    ["", "a/b/c.png", "iVBORw0KGgo.png", "x" * 400, "data:", "data:image/png;base64,!!!", "QUJD" * 30],
)
def test_text_that_is_no_image(text):
    assert image_in_text(text) is None


def test_text_that_is_one():
    assert image_in_text("data:text/plain,a%20b") == b"a b"
    assert image_in_text(f"  {BASE64[0]}\n") == IMAGES[0]
    assert image_in_bytes(IMAGES[0]) is None
    assert image_in_bytes(BASE64[0].encode()) == IMAGES[0]
    assert image_in_bytes(b"BM" + bytes(range(200))) is None
