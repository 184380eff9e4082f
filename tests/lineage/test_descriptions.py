"""The card, Croissant and OpenLineage files are read by the tools they are written for."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.audit.report import write_report
from pipeline.lineage.openlineage import openlineage_lines
from pipeline.publishing.manifest import read_manifest
from pipeline.shards.output.store import open_store
from schemas.manifest import Failure
from tests.fixtures.data_sets import CLASSES, FLIP, plan_of, run_here, write_input, write_recipe
from tests.fixtures.shard_files import photos, write_shard


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("described")
    write_input(folder / "data", rows=6)
    run_here(plan_of(write_recipe(folder, output={"keep_originals": True})))
    return folder / "out"


def fresh(code: str, folder: Path) -> str:
    """Run code in a process of its own: these libraries warn and cache as they like."""
    environment = {**os.environ, "HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_load_dataset_gives_decoded_images_and_class_names(out: Path, tmp_path: Path) -> None:
    code = (
        f"from datasets import load_dataset\nrows = load_dataset({str(out)!r}, split='train')\n"
        "print(len(rows), rows[0]['image'].size, rows.features['label'].names)"
    )
    assert fresh(code, tmp_path).strip() == f"36 (32, 24) {list(CLASSES)}"


def test_croissant_is_valid_and_reads_every_row(out: Path) -> None:
    code = (
        "import mlcroissant\nrows = list(mlcroissant.Dataset(jsonld='croissant.json').records('images'))\n"
        "print(len(rows), rows[0]['images/image'].size)"
    )
    assert fresh(code, out).strip() == "36 (32, 24)"


def test_openlineage_has_one_event_a_branch_and_one_of_the_run(out: Path) -> None:
    manifest = read_manifest(open_store(str(out)))
    events = [json.loads(line) for line in (out / "openlineage.jsonl").read_text().splitlines()]
    *branches, run = events
    assert [event["job"]["name"] for event in branches] == ["original", "flipped"]
    assert {event["eventType"] for event in events} == {"COMPLETE"}
    assert len({event["run"]["runId"] for event in events}) == len(events)
    assert all(event["run"]["facets"]["parent"]["run"]["runId"] == run["run"]["runId"] for event in branches)
    assert sorted(shard["name"] for shard in run["inputs"]) == sorted(shard.uri for shard in manifest.shards)
    made = [output["outputFacets"]["outputStatistics"] for event in branches for output in event["outputs"]]
    assert [each["rowCount"] for each in made] == [12, 24]
    assert sum(each["rowCount"] for each in made) == manifest.counts.accepted
    assert {(each["namespace"], each["name"]) for each in run["outputs"]} == {("file", str(out))}
    files = [*(out / "data").iterdir()]
    whole = run["outputs"][0]["outputFacets"]["outputStatistics"]
    assert (whole["fileCount"], whole["size"]) == (len(files), sum(path.stat().st_size for path in files))


def test_openlineage_tells_of_units_that_failed(out: Path) -> None:
    manifest = read_manifest(open_store(str(out))).model_copy(update={"complete": False, "failed": ["lost"]})
    failure = Failure(unit="lost", branch="flipped", rows=3, digest="d" * 64, attempts=3, error="the disk is gone")
    *branches, unit, run = map(json.loads, openlineage_lines(manifest, {}, [failure], "s3://bucket/made"))
    assert {event["eventType"] for event in (*branches, unit, run)} == {"FAIL"}
    assert [event["outputs"] for event in branches] == [[], []]
    assert unit["run"]["facets"]["errorMessage"]["message"] == "the disk is gone"
    assert (run["outputs"][0]["namespace"], run["outputs"][0]["name"]) == ("s3://bucket", "made")


def test_the_report_needs_no_other_file_and_shows_every_class(out: Path) -> None:
    store = open_store(str(out))
    write_report(store, read_manifest(store))
    text = store.read("report/index.html").decode()
    assert "http" not in text.replace("http-equiv", "")
    for name in (*CLASSES, "flipped"):
        assert name in text
    assert text.count('class="source small"') == 3 * 2
    assert text.count("data:image/png;base64,") == 3 * 2 * 3


def test_the_report_counts_reasons_and_survives_lost_sources(tmp_path: Path) -> None:
    images = [*photos(4), b"not an image", b""]
    write_shard(tmp_path / "data/a.parquet", images, labels=[0] * 6)
    run_here(plan_of(write_recipe(tmp_path, [FLIP])))
    (tmp_path / "data/a.parquet").unlink()
    store = open_store(str(tmp_path / "out"))
    write_report(store, read_manifest(store))
    text = store.read("report/index.html").decode()
    assert "not_an_image" in text
    assert "empty_image" in text
    assert "not there" in text
