"""Rows that name files: a whole run reads none that the recipe does not allow, and keeps nothing that is no image."""

import os

import pyarrow.parquet as pq
import pytest
import yaml

from jobs.cli import main
from tests.fixtures.shard_files import photos, write_shard

SECRET = "a-key-that-no-shard-may-read"


@pytest.fixture
def place(tmp_path):
    key = tmp_path / "keys" / "my.key"
    key.parent.mkdir()
    key.write_text(SECRET)
    key.chmod(0o600)
    return tmp_path


def recipe(place, **given):
    text = {
        "version": 1, "seed": 7, "watermark": "none", "input": {"uri": "in", **given}, "output": {"uri": "out"},
        "branches": [{"name": "b", "copies": 1, "operators": [{"flip": {}}]}],
    }  # fmt: skip
    (place / "recipe.yaml").write_text(yaml.safe_dump(text))
    return str(place / "recipe.yaml")


def run(place, **given):
    return main(["run", recipe(place, **given), "--executor", "inline"])


def quarantined(place):
    return [row for file in (place / "out" / "quarantine").glob("*") for row in pq.read_table(file).to_pylist()]


def assert_nothing_of_the_key(place):
    for file in (place / "out").rglob("*"):
        assert file.is_dir() or SECRET.encode() not in file.read_bytes(), file


def test_a_row_reads_no_file_outside_its_folder(place):
    os.mkfifo(place / "pipe.png")
    names = [f"{place}/keys/my.key", "../keys/my.key", "link.png", "text.png", "/proc/self/environ", "../pipe.png"]
    write_shard(place / "in" / "a.parquet", [*photos(120, 8, 8), *names])
    (place / "in" / "link.png").symlink_to(place / "keys" / "my.key")
    (place / "in" / "text.png").write_text(f"not an image: {SECRET}")
    assert run(place) == 0
    rows = quarantined(place)
    assert [row["error_code"] for row in rows] == [*["path_refused"] * 3, "not_an_image", *["path_refused"] * 2]
    assert [row["image"] for row in rows] == [{"bytes": None, "path": name} for name in names]
    assert_nothing_of_the_key(place)
    assert main(["verify", str(place / "out")]) == 0


def test_bytes_that_a_row_holds_are_kept_as_they_are(place):
    write_shard(place / "in" / "a.parquet", [*photos(40, 8, 8), b"no image, and the shard's own"])
    assert run(place) == 0
    assert [row["image"] for row in quarantined(place)] == [{"bytes": b"no image, and the shard's own", "path": None}]


def test_a_column_of_refused_names_is_told_before_anything_runs(place, capsys):
    write_shard(place / "in" / "a.parquet", [f"{place}/keys/my.key"] * 3, kind="path")
    for command in (["plan"], ["run", "--executor", "inline"]):
        assert main([command[0], recipe(place), *command[1:]]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert f"input.allow_paths: [{place}/keys]" in said
    write_shard(place / "in" / "a.parquet", ["http://127.0.0.1:9/1.png"] * 3, kind="path")
    assert main(["plan", recipe(place)]) == 2
    assert "input.allow_urls: [http://127.0.0.1:9/]" in capsys.readouterr().err
    assert not (place / "out").exists()


def test_plan_opens_none_of_the_files_that_rows_name(place):
    os.mkfifo(place / "in.png")
    (place / "in").mkdir()
    os.mkfifo(place / "in" / "pipe.png")  # to open it would take for ever
    write_shard(place / "in" / "a.parquet", ["pipe.png", None], kind="path")
    assert main(["plan", recipe(place)]) == 0


def test_folders_that_the_recipe_allows(place):
    (place / "shared").mkdir()
    (place / "shared" / "1.png").write_bytes(photos(1, 8, 8)[0])
    write_shard(place / "in" / "a.parquet", [f"{place}/shared/1.png"] * 3, kind="path")
    assert run(place, allow_paths=["shared"]) == 0
    assert not quarantined(place)
