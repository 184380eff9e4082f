"""Shards that differ, folders that state labels, views and links: run, verified and replayed as one input."""

import base64
import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.audit.replay import replay_sample
from pipeline.audit.verify import verify_dataset
from pipeline.errors import ConflictError
from pipeline.shards.output.store import open_store
from tests.fixtures.data_sets import contents, plan_of, rows_of, run_here, write_recipe
from tests.fixtures.shard_files import photos


def write(path: Path, images: list[bytes], **columns: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"image": images, **columns}), path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = photos(6)
    write(tmp_path / "data/label=cat/0.parquet", images[:2], note=pa.array(["a", None], pa.string_view()))
    write(tmp_path / "far/0", images[2:4], note=pa.nulls(2), size=pa.array([1, 2], pa.int32()))
    write(tmp_path / "data/label=dog/1.pq", images[4:], size=pa.array([2**40, 0]))
    (tmp_path / "data/label=dog/0.parquet").symlink_to(tmp_path / "far/0")
    return tmp_path


def test_a_run_over_unlike_shards_is_verified_and_replayed(folder: Path) -> None:
    recipe = write_recipe(folder, input={"uri": "data"}, output={"keep_originals": True})
    manifest, _ = run_here(plan_of(recipe))
    rows = rows_of(folder / "out")
    originals = [row for row in rows if row["branch"] == "original"]
    assert [(row["label"], row["note"], row["size"]) for row in originals] == [
        ("cat", "a", None), ("cat", None, None), ("dog", None, 1), ("dog", None, 2), ("dog", None, 2**40),
        ("dog", None, 0),
    ]  # fmt: skip
    assert [row["image"]["bytes"] for row in originals] == photos(6)
    schemas = {str(pq.read_schema(path).remove_metadata()) for path in (folder / "out/data").glob("*.parquet")}
    assert len(schemas) == 1
    assert [shard.path for shard in manifest.shards] == [
        "label=cat/0.parquet", "label=dog/0.parquet", "label=dog/1.pq",
    ]  # fmt: skip
    store = open_store(str(folder / "out"))
    report = verify_dataset(store)
    assert report.findings == []
    assert not [note for note in report.notes if "source" in note]
    for row in rows[::5]:
        assert replay_sample(store, row["sample_id"]).equal


def test_a_shard_that_changes_the_columns_of_others_is_a_conflict_not_a_mixture(folder: Path) -> None:
    recipe = write_recipe(folder, input={"uri": "data"})
    run_here(plan_of(recipe))
    before = contents(folder / "out")
    write(folder / "data/label=dog/2.parquet", photos(1, seed=9), size=pa.array([1.5], pa.float64()), more=[1])
    with pytest.raises(Exception, match="size"):  # int64 and float have no type in common
        plan_of(recipe)
    write(folder / "data/label=dog/2.parquet", photos(1, seed=9), more=[1])
    with pytest.raises(ConflictError):
        run_here(plan_of(recipe))
    assert contents(folder / "out") == before


def test_a_folder_that_is_named_anew_is_another_input(folder: Path) -> None:
    recipe = write_recipe(folder, input={"uri": "data/label=cat"})
    first = plan_of(recipe)
    (folder / "data/label=cat").rename(folder / "data/label=lion")
    second = plan_of(recipe, input__uri="data/label=lion")
    assert first.units[0].name == second.units[0].name
    assert first.units[0].digest != second.units[0].digest


def test_images_as_text_are_the_images_they_stand_for(tmp_path: Path) -> None:
    images = photos(3)
    texts = [base64.b64encode(image).decode() for image in images]
    (tmp_path / "data").mkdir()
    values = [texts[0], f"data:image/png;base64,{texts[1]}", texts[2], *[None] * 8, "no image"]
    pq.write_table(pa.table({"image": values}), tmp_path / "data/0.parquet")
    recipe = write_recipe(tmp_path, output={"keep_originals": True}, quality={"max_quarantined_share": 1.0})
    run_here(plan_of(recipe))
    rows = [row for row in rows_of(tmp_path / "out") if row["branch"] == "original"]
    assert [row["image"]["bytes"] for row in rows] == images
    assert [row["source_sha256"] for row in rows] == [hashlib.sha256(image).hexdigest() for image in images]
    lost = [row for row in rows_of(tmp_path / "out", "quarantine") if row["branch"] == "original"]
    assert [row["error_code"] for row in lost] == ["null_image"] * 8 + ["not_an_image"]
    assert lost[-1]["image"]["bytes"] == b"no image"
    store = open_store(str(tmp_path / "out"))
    assert verify_dataset(store).findings == []
    assert replay_sample(store, rows[1]["sample_id"]).equal
