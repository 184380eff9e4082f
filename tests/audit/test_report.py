"""The report where the input was moved, changed or removed, and rows as JSON."""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jobs.commands.trace import _plain
from pipeline.audit.report import REPORT, SourceImages, write_report
from pipeline.shards.images.codecs import decode
from pipeline.shards.output.store import open_store
from schemas.manifest import Manifest
from tests.fixtures.broken_images import save
from tests.fixtures.data_sets import plan_of, rows_of, run_here, write_input, write_recipe
from tests.fixtures.shard_files import photos, write_shard


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, Manifest]:
    write_input(tmp_path / "data", shards=1, rows=12)
    manifest, _ = run_here(plan_of(write_recipe(tmp_path)))
    return tmp_path, manifest


def test_a_source_that_is_there_is_shown(made: tuple[Path, Manifest]) -> None:
    folder, manifest = made
    tile = SourceImages(manifest).tile(rows_of(folder / "out")[0])
    assert tile.source
    assert tile.image is not None


def test_a_source_of_twelve_bits_is_shown(tmp_path: Path) -> None:
    deep = save(Image.fromarray(np.full((24, 32), 2048, np.uint16)), "PNG")
    write_shard(tmp_path / "data" / "a.parquet", [deep], labels=[0])
    manifest, _ = run_here(plan_of(write_recipe(tmp_path, input={"bit_depth": 12})))
    tile = SourceImages(manifest).tile(rows_of(tmp_path / "out")[0])
    assert tile.image is not None and (decode(tile.image[0], 768) == 128).all()


@pytest.mark.parametrize("rows", [12, 1])
def test_a_source_shard_that_changed_is_said_and_its_pictures_are_not_shown(
    made: tuple[Path, Manifest], rows: int
) -> None:
    folder, manifest = made
    row = rows_of(folder / "out")[-1]
    path = folder / "data/train-00000.parquet"
    write_shard(path, photos(rows, seed=9), labels=[0] * rows, ids=["x"] * rows)
    tile = SourceImages(manifest).tile(row)
    assert tile.image is None
    assert "changed since the run" in tile.detail
    store = open_store(str(folder / "out"))
    write_report(store, manifest)
    assert b"changed since the run" in store.read(REPORT)
    path.write_bytes(b"no shard")
    assert SourceImages(manifest).tile(row).image is None
    path.unlink()
    assert SourceImages(manifest).tile(row).image is None


def test_a_row_is_valid_json_whatever_it_holds() -> None:
    row: dict[str, Any] = {
        "bad": [float("nan"), float("inf"), -1.5],
        "data": {"raw": b"\xff\x00"},
        "at": Path("x"),
        "n": None,
    }
    plain = json.loads(json.dumps(_plain(row), allow_nan=False))
    assert plain == {
        "bad": [None, None, -1.5],
        "data": {"raw": base64.b64encode(b"\xff\x00").decode()},
        "at": "x",
        "n": None,
    }


def test_of_very_many_classes_a_hundred_are_shown_and_that_is_said(tmp_path: Path) -> None:
    labels = [f"{'long ' * 60}{index:03d}" for index in range(120)]
    write_shard(tmp_path / "data/a.parquet", photos(1, 8, 8) * 120, labels=labels)
    manifest, _ = run_here(plan_of(write_recipe(tmp_path)))
    store = open_store(str(tmp_path / "out"))
    write_report(store, manifest)
    text = store.read(REPORT).decode()
    assert "(100 of 120 classes)" in text
    assert text.count("<h3>") == 100
    assert labels[0] not in text
