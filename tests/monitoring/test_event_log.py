"""The event log of a run: one event a unit, one traceback for each kind of failure, the same on Ray and inline."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.cli import main
from tests.fixtures.data_sets import write_recipe
from tests.fixtures.shard_files import photos, write_shard


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Three units: two of photos, one with a broken row."""
    write_shard(tmp_path / "data/a.parquet", [*photos(29), b"no \x1b[31mimage"], labels=[0] * 30)
    return write_recipe(tmp_path)


@pytest.fixture
def events(recipe: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., list[dict[str, Any]]]:
    def run(*more: str) -> list[dict[str, Any]]:
        assert main(["run", str(recipe), "--log-json", "--output", str(tmp_path / "out"), *more]) == 0
        printed = capfd.readouterr()
        assert printed.out == ""
        return [json.loads(line) for line in printed.err.splitlines()]

    return run


def check(found: list[dict[str, Any]]) -> None:
    assert [event["event"] for event in found].count("unit_done") == 3
    assert found[0]["event"] == "run_started" and found[-1]["event"] == "run_finished"
    units = [event for event in found if event["event"] == "unit_done"]
    assert sum(unit["accepted"] for unit in units) == 58
    assert [unit["quarantine_reasons"] for unit in units if unit["quarantined"]] == [{"not_an_image": 1}]
    (kind,) = [event for event in found if event["event"] == "rows_quarantined"]
    assert (kind["code"], kind["branch"], kind["source_row"], kind["level"]) == (
        "not_an_image",
        "flipped",
        29,
        "warning",
    )
    assert "RowError" in kind["traceback"]
    assert found[-1]["complete"] is True
    assert (found[-1]["accepted"], found[-1]["rejected"], found[-1]["quarantined"]) == (58, 0, 1)
    assert all({"time", "level", "event", "message"} <= set(event) for event in found)


def test_log_json_inline(events: Callable[..., list[dict[str, Any]]]) -> None:
    check(events("--executor", "inline"))


@pytest.mark.usefixtures("ray_local")
def test_log_json_on_ray(events: Callable[..., list[dict[str, Any]]]) -> None:
    check(events())


@pytest.mark.parametrize("form", [None, "--verbose", "--quiet"])
def test_lines_for_a_person(recipe: Path, form: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--executor", "inline", *([form] if form else [])]
    assert main(["run", str(recipe), *options]) == 0
    printed = capsys.readouterr()
    assert printed.out == "" and "\x1b" not in printed.err
    lines = printed.err.splitlines()
    units = [line for line in lines if line.startswith("unit flipped-a-")]
    if form == "--quiet":
        out = recipe.parent / "out"
        assert lines == [f"58 images accepted, 0 rejected, 1 row quarantined, 0 units failed; data set: {out}"]
        return
    assert len(units) == (3 if form else 0)
    assert ("Traceback (most recent call last):" in lines) == bool(form)
    (kind,) = [line for line in lines if "quarantines rows as not_an_image" in line]
    assert kind.startswith("palimpsest: branch 'flipped' quarantines")
    assert "_failed/rows/flipped-not_an_image.json" in kind
    assert any(line.startswith("58 images in ") for line in lines)


def test_a_command_line_that_is_wrong_is_one_short_line_in_the_form_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["run", "recipe.yaml", "--quiet", "--log-json"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["event"] == "error" and "not allowed with" in json.loads(line)["message"]
    assert main(["run", "recipe.yaml", "--" + "x" * 100_000]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("palimpsest: unrecognized arguments: --xxx") and len(line) < 600
    assert line.endswith("see `palimpsest --help`")


def test_a_failed_unit_is_told_with_its_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_shard(tmp_path / "data/a.parquet", list(photos(8)), labels=[0] * 8)
    path = write_shard(tmp_path / "data/b.parquet", list(photos(8)), labels=[0] * 8)
    data = bytearray(path.read_bytes())
    data[200:3000] = bytes(2800)
    path.write_bytes(data)
    assert main(["run", str(write_recipe(tmp_path)), "--executor", "inline", "--log-json"]) == 1
    found = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    (failed,) = [event for event in found if event["event"] == "unit_failed"]
    assert failed["attempts"] == 3 and "row group 0 cannot be read" in failed["error"]
    assert "Traceback (most recent call last)" in failed["traceback"]
    record = json.loads((tmp_path / f"out/_failed/{failed['unit']}.json").read_text())
    assert record["traceback"] == failed["traceback"]
    assert found[-1]["failed"] == [failed["unit"]]
    attempts = [event for event in found if event["event"] == "unit_attempt_failed"]
    assert [(event["attempt"], event["unit"]) for event in attempts] == [(n, failed["unit"]) for n in (1, 2, 3)]
    assert attempts[-1]["traceback"] == failed["traceback"]


def test_the_error_that_ends_a_run_has_its_traceback_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "no such recipe", "--log-json"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    found = json.loads(line)
    assert (found["event"], found["error"]) == ("error", "RecipeError")
    assert found["traceback"].startswith("Traceback (most recent call last)") and found["message"] in found["traceback"]
