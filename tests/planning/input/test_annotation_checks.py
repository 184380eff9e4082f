"""Annotations beside images whose pixels move are refused by the plan; sizes of images follow what is made."""

import io
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pipeline.audit.replay import replay_sample
from pipeline.audit.verify import verify_dataset
from pipeline.errors import InputError, RecipeError
from pipeline.shards.output.store import open_store
from schemas.manifest import Failure
from tests.fixtures.broken_images import turned
from tests.fixtures.data_sets import FLIP, plan_of, rows_of, run_here, write_recipe
from tests.fixtures.shard_files import photos, write_shard

BOXES = {"bbox": [[3.0, 4.0, 10.0, 12.0]] * 6}
STILL = {"name": "still", "copies": 1, "operators": [{"color_transfer": {}}]}
MADE = {"name": "made", "count": 3, "operators": [{"gan_synth": {"force": True}}, {"flip": {}}]}


def shard(folder: Path, **extra):
    write_shard(
        folder / "data" / "a.parquet", photos(6, 24, 32), labels=[0, 1] * 3, class_names=["a", "b"], extra=extra
    )


@pytest.mark.parametrize(
    ("branches", "output"), [([STILL], {"size": 16}), ([FLIP], {}), ([MADE, FLIP], {}), ([STILL, FLIP], {"size": 16})]
)
def test_what_moves_pixels_is_refused_beside_annotations(tmp_path, branches, output):
    shard(tmp_path, **BOXES)
    with pytest.raises(RecipeError, match=r"recipe\.(output\.size|branches.*flip moves).*bbox.*input\.drop: \[bbox\]"):
        plan_of(write_recipe(tmp_path, branches, output=output))
    assert plan_of(write_recipe(tmp_path, branches, output=output, input={"drop": ["bbox"]})).units
    assert plan_of(write_recipe(tmp_path, branches, output=output, input={"passthrough": ["bbox"]})).units


def test_what_is_mixed_into_an_image_has_no_annotations(tmp_path):
    shard(tmp_path, **BOXES)
    with pytest.raises(RecipeError, match=r"diffusion_mix moves pixels, and bbox"):
        plan_of(write_recipe(tmp_path, [{"name": "mixed", "operators": [{"diffusion_mix": {"force": True}}]}]))


@pytest.mark.parametrize(("branches", "output"), [([STILL], {}), ([MADE], {"size": 16}), ([STILL, MADE], {})])
def test_pixels_that_stay_keep_their_annotations(tmp_path, branches, output):
    shard(tmp_path, **BOXES)
    assert plan_of(write_recipe(tmp_path, branches, output={**output, "keep_originals": True})).units


def test_values_of_the_first_rows_decide_where_names_do_not(tmp_path):
    shard(tmp_path, region=[[3.0, 4.0, 10.0, 12.0]] * 6, vector=[[-0.5, 0.1, 0.2, 0.3]] * 6, scan=photos(6))
    with pytest.raises(
        RecipeError, match=r"and region \(boxes, points or masks\), scan \(images\) would no longer fit"
    ):
        plan_of(write_recipe(tmp_path, input={"columns": {"image": "image"}}))


class Grid(pa.ExtensionType):
    """A tensor of a library that is loaded: its cells are arrays, as those of Ray Data are."""

    def __init__(self):
        super().__init__(pa.list_(pa.float32()), "palimpsest.test.grid")

    def __arrow_ext_serialize__(self):
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type, serialized):
        return cls()

    def __arrow_ext_scalar_class__(self):
        return GridScalar


class GridScalar(pa.ExtensionScalar):
    def as_py(self, **_):
        return np.zeros((24, 32))


@pytest.mark.parametrize("registered", [False, True])
def test_a_tensor_of_another_library(tmp_path, registered):
    stored = pa.array([[0.5] * 24 * 32] * 6, pa.list_(pa.float32()))
    shard(tmp_path, inside=pa.ExtensionArray.from_storage(Grid(), stored))
    if registered:
        pa.register_extension_type(Grid())
    try:
        with pytest.raises(RecipeError, match=r"inside \(boxes, points or masks\) would no longer fit"):
            plan_of(write_recipe(tmp_path))
    finally:
        if registered:
            pa.unregister_extension_type("palimpsest.test.grid")


def test_a_long_list_of_annotations_is_cut(tmp_path):
    shard(tmp_path, **{f"box_{index}_x1": [1] * 6 for index in range(40)})
    with pytest.raises(RecipeError, match="and 35 more would no longer fit") as caught:
        plan_of(write_recipe(tmp_path))
    assert len(str(caught.value)) < 500


def test_an_unaligned_column_must_be_there(tmp_path):
    shard(tmp_path, **BOXES)
    with pytest.raises(InputError, match=r"input\.passthrough: there is no column 'bbx' \(did you mean 'bbox'\?\)"):
        plan_of(write_recipe(tmp_path, input={"passthrough": ["bbx"]}))


def test_width_and_height_follow_the_image(tmp_path):
    images = [*photos(3, 24, 32), turned(6), b"no image"]
    extra = {
        "width": pa.array([32, 32, 7, 32, 32], pa.uint16()),
        "height": pa.array([24, 24, 24, 24, 24], pa.uint16()),
        "size": [[24, 32]] * 5,
    }
    write_shard(tmp_path / "data" / "a.parquet", images, labels=[0] * 5, extra=extra)
    flip = {**FLIP, "copies": 1}
    run_here(plan_of(write_recipe(tmp_path, [flip], output={"size": 16, "keep_originals": True})))
    out = tmp_path / "out"
    rows = {(row["branch"], row["source_row"]): row for row in rows_of(out)}
    sizes = {key: (row["width"], row["height"], row["size"]) for key, row in rows.items()}
    assert [sizes["flipped", row] for row in range(4)] == [(16, 16, [16, 16])] * 2 + [
        (7, 24, [16, 16]),
        (16, 16, [16, 16]),
    ]
    assert [sizes["original", row] for row in range(4)] == [(32, 24, [24, 32])] * 2 + [
        (7, 24, [24, 32]),
        (32, 24, [24, 32]),
    ]
    assert {(row["width"], row["height"]) for row in rows_of(out, "quarantine")} == {(32, 24)}
    store = open_store(str(out))
    assert verify_dataset(store).findings == []
    assert replay_sample(store, rows["flipped", 3]["sample_id"]).replayed["width"] == 16


def test_an_image_that_is_turned_upright_changes_its_width(tmp_path):
    extra = {"width": [32], "height": [24]}
    write_shard(tmp_path / "data" / "a.parquet", [turned(6)], labels=[0], extra=extra)
    run_here(plan_of(write_recipe(tmp_path)))
    row = rows_of(tmp_path / "out")[0]
    assert (row["width"], row["height"]) == (24, 32) == Image.open(io.BytesIO(row["image"]["bytes"])).size
    run_here(plan_of(write_recipe(tmp_path, input={"passthrough": ["width"]}, output={"uri": "other"})))
    assert rows_of(tmp_path / "other")[0]["width"] == 32


def test_an_image_beside_a_box_that_is_turned_upright_is_noted(tmp_path):
    write_shard(
        tmp_path / "data" / "a.parquet",
        [*photos(1), turned(6)],
        labels=[0, 1],
        extra={"bbox": [[3.0, 4.0, 10.0, 12.0]] * 2},
    )
    (note,) = plan_of(write_recipe(tmp_path, [STILL])).notes
    assert re.search(r"^row 1 of .*a\.parquet is stored turned, .*bbox \(boxes, points or masks\) stay", note)
    assert plan_of(write_recipe(tmp_path, [STILL], input={"passthrough": ["bbox"]})).notes == ()


def test_a_width_that_its_column_cannot_hold(tmp_path):
    shard(tmp_path, width=pa.array([32] * 6, pa.uint8()))
    with pytest.raises(RecipeError, match="column 'width' follows the image, and uint8 does not hold 512"):
        plan_of(write_recipe(tmp_path, output={"size": 512}))
    assert plan_of(write_recipe(tmp_path, output={"size": 255})).units


def test_a_column_named_as_what_the_runner_notes_of_a_row(tmp_path):
    shard(tmp_path, source=["web"] * 6, _shape=["round"] * 6)
    run_here(plan_of(write_recipe(tmp_path, [MADE, STILL])))
    rows = [(row["branch"], row["source"], row["_shape"]) for row in rows_of(tmp_path / "out")]
    assert rows == [("made", None, None)] * 3 + [("still", "web", "round")] * 6


def test_text_that_is_no_text_is_told_by_column(tmp_path):
    ends = np.arange(0, 28, 4, dtype=np.int32).tobytes()
    text = pa.StringArray.from_buffers(6, pa.py_buffer(ends), pa.py_buffer(b"\xff\xfe\xfd\xfc" * 6))
    shard(tmp_path, note=text)
    _, outcomes = run_here(plan_of(write_recipe(tmp_path)))
    assert {type(each) for each in outcomes} == {Failure}
    assert all(re.search(r"column 'note' cannot be read: .*input\.drop: \[note\]", each.error) for each in outcomes)
    assert plan_of(write_recipe(tmp_path, input={"drop": ["note"]})).units


def test_reduced_decoding_needs_a_size_and_leaves_no_boxes_behind(tmp_path):
    shard(tmp_path, **BOXES)
    with pytest.raises(RecipeError, match=r"recipe\.input\.reduced_decode: .* output\.size, and that is `source`"):
        plan_of(write_recipe(tmp_path, [STILL], input={"reduced_decode": True}))
    with pytest.raises(RecipeError, match=r"recipe\.output\.size: .*bbox \(boxes, points or masks\) would no longer"):
        plan_of(write_recipe(tmp_path, [STILL], input={"reduced_decode": True}, output={"size": 16}))
    kept = {"reduced_decode": True, "drop": ["bbox"]}
    assert plan_of(write_recipe(tmp_path, [STILL], input=kept, output={"size": 16})).units
