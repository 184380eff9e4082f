"""`bench profile` and `bench codec`: parts that add up to the whole, and the same images from both ways."""

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from jobs.bench import codec, inputs, profile
from jobs.bench.contestants import bare_loop, palimpsest_run
from jobs.bench.contestants.pillow_images import PlainOperator, decode, encode
from jobs.bench.contestants.task import CASES, Task
from jobs.bench.synthetic_photographs import photograph

pytestmark = pytest.mark.usefixtures("own_cache", "one_thread")


def shares(case: profile.Case, folder: Path, images: int = 64) -> dict[str, float]:
    found = profile.measure_case(case, folder, images)
    assert found["images"] == images * 7 // 8  # the first unit warms up
    assert 0.97 < sum(found["shares"].values()) < 1.03
    assert min(found["shares"].values()) >= 0
    return found["shares"]


def test_every_part_of_light_work_has_its_share(tmp_path: Path) -> None:
    found = shares(replace(profile.CASES["light, JPEG"], size_px=96), tmp_path)
    assert found["mark"] == 0
    assert min(found[part] for part in profile.COLUMNS if part != "mark") > 0


def test_the_mark_and_its_reading_back_are_one_part(tmp_path: Path) -> None:
    found = shares(replace(profile.CASES["light, JPEG, marked"], size_px=96), tmp_path, 32)
    assert found["mark"] > found["decode"]


def test_generators_decode_nothing(tmp_path: Path) -> None:
    found = profile.measure_case(profile.CASES["GAN 28 px"], tmp_path, 80)
    assert found["shares"]["decode"] == found["shares"]["read"] == 0
    assert found["shares"]["operator"] > 0


def test_both_ways_make_the_same_jpeg_and_are_timed() -> None:
    image = encode(photograph(1, 64))
    assert codec.ours(image, "jpeg") == codec.pillows(image, "jpeg")
    assert codec.ours(image, "png") != codec.pillows(image, "png")
    for by in ("palimpsest", "pillow"):
        assert codec.speed(by, "jpeg", 32, 0, time.time(), 0.05) > 0


def test_png_beside_originals_holds_the_pixels_of_the_bare_loop(tmp_path: Path, capsys) -> None:
    case = replace(CASES["light-png"], rows=24, size_px=64)
    folder = inputs.repeated_shards(inputs.synthetic_shards(case, case.rows), 2)
    task = Task("light", str(folder), str(tmp_path / "ours"), 64, executor="inline", encoding="png", originals=True)
    palimpsest_run.main(task.to_json())
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["rows"] == 48
    rows = pq.read_table(tmp_path / "ours" / "data").to_pylist()
    assert sorted({row["branch"] for row in rows}) == ["light", "original"]
    assert len(rows) == 96
    (tmp_path / "bare").mkdir()
    bare = replace(task, output=str(tmp_path / "bare"))
    assert sum(bare_loop.convert(path, bare, PlainOperator(bare)) for path in bare.shards()) == 48
    theirs = {row["id"]: row["image"] for row in pq.read_table(tmp_path / "bare").to_pylist()}
    for row in rows:
        if row["branch"] == "light":
            assert np.array_equal(decode(row["image"]["bytes"], 64), decode(theirs[row["id"]], 64))
