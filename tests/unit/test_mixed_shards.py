"""Shards that differ, folders that state labels, views and links: run, verified and replayed as one input."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.audit.replay import replay_sample
from pipeline.audit.verify import verify_dataset
from pipeline.errors import ConflictError
from pipeline.shards.store import open_store
from tests.data_sets import contents, plan_of, rows_of, run_here, write_recipe
from tests.shard_files import photos


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
