"""Columns of the image's size: found by name and type, and rewritten where they say the source's size."""

import pyarrow as pa
import pytest

from pipeline.shards.columns.dimensions import Resized, dimension_columns, max_size, rewritten

SIZE = pa.struct([("width", pa.int32()), ("height", pa.int32())])
MADE = Resized((100, 200, 3), (64, 65, 1))


def test_columns_are_found_by_name_and_type():
    kinds = {
        "width": pa.int64(), "Image_Height": pa.float32(), "img_w": pa.uint8(), "size": SIZE,
        "shape": pa.list_(pa.int64()), "image_size": pa.list_(pa.int64(), 2), "info": SIZE,
        "box": pa.struct([("x", pa.int32()), *SIZE]),
        "names": pa.struct(dict.fromkeys(("width", "height"), pa.string())),
        "height_cm": pa.int64(), "original_width": pa.int64(), "w": pa.string(),
        "resolution": pa.int64(), "area": pa.int64(),
    }  # fmt: skip
    schema = pa.schema(list(kinds.items()))
    assert dimension_columns(schema, ()) == ("width", "Image_Height", "img_w", "size", "shape", "image_size", "info")
    assert dimension_columns(schema, ("width", "size")) == ("Image_Height", "img_w", "shape", "image_size", "info")


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (SIZE, {"width": 200, "height": 100}, {"width": 65, "height": 64}),
        (SIZE, {"width": 100, "height": 200}, {"width": 65, "height": 64}),
        (SIZE, {"width": 7, "height": 100}, {"width": 7, "height": 100}),
        (pa.list_(pa.int64()), [200, 100], [65, 64]),
        (pa.list_(pa.int64()), [100, 200], [64, 65]),
        (pa.list_(pa.int64()), [100, 200, 3], [64, 65, 1]),
        (pa.list_(pa.int64()), [100, 200, 7], [100, 200, 7]),
        (pa.list_(pa.int64()), [4, 5], [4, 5]),
        (pa.list_(pa.int64()), [], []),
        (SIZE, None, None),
    ],
)
def test_several_numbers_in_one_column(kind, value, expected):
    assert rewritten({"size": pa.array([value], kind)}, [MADE])["size"].to_pylist() == [expected]


def test_sizes_within_a_struct_of_other_things():
    kind = pa.struct(
        [("taken", pa.timestamp("us")), pa.field("height", pa.uint16(), nullable=False), ("width", pa.int64())]
    )
    far = pa.array([2**62] * 3, pa.timestamp("us"))  # beyond the years that Python knows
    parts = [far, pa.array([100, 7, 100], pa.uint16()), pa.array([200, 200, 200])]
    column = pa.StructArray.from_arrays(parts, fields=list(kind), mask=pa.array([False, False, True]))
    new = rewritten({"info": column}, [MADE] * 3)["info"]
    assert new.type == kind and new.is_valid().to_pylist() == [True, True, False]
    assert new.field("taken").equals(far) and new.field("height").to_pylist()[:2] == [64, 7]
    assert new.field("width").to_pylist()[:2] == [65, 200]


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [
        (200, 100, (65, 64)),
        (100, 200, (65, 64)),  # as it is stored, before it is turned upright
        (200, 7, (200, 7)),
        (200, None, (65, None)),
        (None, None, (None, None)),
    ],
)
def test_width_and_height_side_by_side(width, height, expected):
    columns = {"Img_Width": pa.array([width], pa.uint16()), "Img_Height": pa.array([height], pa.uint16())}
    new = rewritten(columns, [MADE])
    assert (new["Img_Width"].to_pylist()[0], new["Img_Height"].to_pylist()[0]) == expected
    assert new["Img_Width"].type == pa.uint16()


def test_the_largest_size_that_a_type_holds():
    assert [max_size(kind) for kind in (pa.uint8(), pa.int16(), pa.float32(), SIZE)] == [255, 32_767, None, 2**31 - 1]
    assert max_size(pa.list_(pa.int8())) == 127
