"""Some fuzzed images, Parquet files and recipes of a fixed seed; `make chaos` runs thousands of a new one."""

import io
import os
import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from tests.chaos import cases, fuzz
from tests.chaos.images import broken_image
from tests.chaos.parquet_files import broken_shard
from tests.chaos.recipes import random_recipe

SEED = 20


@pytest.mark.parametrize(("kind", "count"), [("images", 250), ("shards", 20), ("recipes", 40)])
def test_every_case_is_made_or_refused_as_documented(kind: str, count: int) -> None:
    assert fuzz.fuzz(kind, SEED, count) == []


def test_cases_follow_from_seed_and_index() -> None:
    for case in (broken_image, broken_shard, random_recipe):
        assert case(SEED, 3) == case(SEED, 3)
        assert len({case(SEED, index) for index in range(20)}) == 20
        assert case(SEED, 0) != case(SEED + 1, 0)


def test_cases_are_neither_all_whole_nor_all_broken() -> None:
    def opens(data: bytes) -> bool:
        try:
            Image.open(io.BytesIO(data)).load()
        except Exception:
            return False
        return True

    def reads(data: bytes) -> bool:
        try:
            pq.read_table(io.BytesIO(data))
        except Exception:
            return False
        return True

    assert 20 < sum(opens(broken_image(SEED, index)) for index in range(100)) < 80
    assert 20 < sum(reads(broken_shard(SEED, index)) for index in range(100)) < 80
    assert all(isinstance(yaml.safe_load(random_recipe(SEED, index)), dict) for index in range(20))


def test_a_native_crash_is_told_with_its_case_and_the_next_ones_run(monkeypatch: pytest.MonkeyPatch) -> None:
    (Path(os.environ["PALIMPSEST_TEST_SITE"]) / "crashing_cases.py").write_text(
        "import os, sys\n"
        "from pathlib import Path\n"
        "kind, seed, first, count, folder = sys.argv[1:]\n"
        "for index in range(int(first), int(first) + int(count)):\n"
        "    Path(folder, 'at').write_text(str(index))\n"
        "    if index == 2:\n"
        f"        os.kill(os.getpid(), {int(signal.SIGSEGV)})\n"
        "    print(kind, index, flush=True)\n"
    )
    monkeypatch.setattr(fuzz, "CASES", "crashing_cases")
    found = fuzz.fuzz("images", SEED, 5)
    assert found == ["images 0", "images 1", "images 2: ended by SIGSEGV", "images 3", "images 4"]


def test_a_wrong_outcome_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cases, "decode", lambda data, max_pixels: 1 / 0)
    assert [index for index, _ in cases.images(SEED, 0, 3, tmp_path)][:3] == [0, 1, 2]
