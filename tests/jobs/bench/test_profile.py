"""`bench profile` and `bench codec`: parts that add up to the whole, and the same images from both ways."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.bench import codec, profile
from jobs.bench.contestants.pillow_images import encode
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
