"""Every made image carries a mark that leads to its row, and no other image does."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.audit.replay import replay_sample
from pipeline.audit.trace import trace_image
from pipeline.audit.verification import Verification
from pipeline.audit.verify import verify_dataset
from pipeline.audit.watermark_checks import WatermarkChecks
from pipeline.errors import InputError, JobError
from pipeline.execution.job import Job
from pipeline.execution.worker import run_inline
from pipeline.plan import Plan
from pipeline.planning.planner import make_plan
from pipeline.planning.recipe_file import load_recipe
from pipeline.publishing.finalise import finalise
from pipeline.publishing.log_writer import LogWriter
from pipeline.publishing.prepare import prepare
from pipeline.publishing.seal import seal_dataset, sealed_log
from pipeline.shards.images.codecs import decode
from pipeline.shards.output.store import open_store
from pipeline.watermark_key import key_id
from tests.fixtures.data_sets import FLIP, rows_of, write_recipe
from tests.fixtures.shard_files import photos, write_shard
from tests.jobs.test_cli import palimpsest

KEY = b"a key of more than sixteen bytes"
MARKED = {"watermark": {"scheme": "stdm", "psnr_db": 42}}


def marked_plan(recipe: Path, key: bytes = KEY) -> Plan:
    loaded, base = load_recipe(str(recipe))
    return make_plan(loaded, base, key_id=key_id(key))


def run_marked(recipe: Path, key: bytes = KEY) -> Path:
    plan = marked_plan(recipe, key)
    store = open_store(plan.output)
    prepared = prepare(plan, store)
    with LogWriter(store, prepared.run) as log:
        for outcome in run_inline(Job.of(plan), plan.branches, prepared.missing(), key):
            log.add(outcome)
    sealed = sealed_log(store, key, log.segments)
    published = finalise(plan, store, prepared.run, (), sealed)
    assert published.manifest.complete
    seal_dataset(store, published.log, key, sealed)
    published.log.remove_merged()
    return Path(plan.output)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("marked")
    write_shard(folder / "data/a.parquet", photos(12, 96, 128), labels=[0] * 12, ids=[f"photo {i}" for i in range(12)])
    run_marked(write_recipe(folder, [FLIP], **MARKED, output={"keep_originals": True}))
    return folder


def test_every_made_image_is_marked_and_no_original(folder: Path) -> None:
    for row in rows_of(folder / "out"):
        if row["branch"] == "original":
            assert row["watermarks"] == []
            continue
        (mark,) = row["watermarks"]
        assert mark["verified"]
        assert mark["key_id"] == key_id(KEY)
        assert mark["psnr_db"] == pytest.approx(42, abs=1)


def test_an_image_found_anywhere_leads_to_its_row(folder: Path) -> None:
    store = open_store(str(folder / "out"))
    for row in [row for row in rows_of(folder / "out") if row["branch"] == "flipped"][::5]:
        stored = Image.open(io.BytesIO(row["image"]["bytes"]))
        worn = io.BytesIO()
        stored.save(worn, "JPEG", quality=75)
        for data in (row["image"]["bytes"], worn.getvalue()):
            found = trace_image(decode(data, 10**8), store, KEY)
            assert found.row is not None
            assert found.row["sample_id"] == row["sample_id"]
            assert found.score > 6


def test_unmarked_images_and_other_keys_lead_nowhere(folder: Path) -> None:
    store = open_store(str(folder / "out"))
    for data in photos(6, 96, 128):
        assert trace_image(decode(data, 10**8), store, KEY).row is None
    for row in [row for row in rows_of(folder / "out") if row["branch"] == "flipped"][::4]:
        found = trace_image(decode(row["image"]["bytes"], 10**8), store, b"another key of sixteen bytes")
        assert found.row is None and found.payload is None
        assert found.other_key == key_id(KEY)


def test_verify_reads_every_mark_and_misses_none(folder: Path, tmp_path: Path) -> None:
    found = verify_dataset(open_store(str(folder / "out")), KEY)
    assert found.findings == []
    assert found.watermarks == 24
    without = verify_dataset(open_store(str(folder / "out")))
    assert without.ok
    assert any("no key" in note for note in without.notes)
    with pytest.raises(InputError, match="marked with key"):
        verify_dataset(open_store(str(folder / "out")), b"another key of sixteen bytes")


def test_few_decoded_images_are_held_while_marks_are_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(str(folder / "out"))
    whole, held = verify_dataset(store, KEY), []
    check = WatermarkChecks.check

    def counted(self: WatermarkChecks, rows: list[Any], images: dict[str, Any], found: Verification) -> None:
        held.append(len(images))
        check(self, rows, images, found)

    monkeypatch.setattr(WatermarkChecks, "check", counted)
    monkeypatch.setattr("pipeline.audit.unit_checks.PIXEL_BYTES", 5 * 96 * 128 * 3)
    assert verify_dataset(store, KEY) == whole
    assert max(held) == 5 and sum(held) == 24


def test_replay_needs_the_key_and_makes_the_same_bytes(folder: Path) -> None:
    store = open_store(str(folder / "out"))
    sample = next(row["sample_id"] for row in rows_of(folder / "out") if row["branch"] == "flipped")
    assert replay_sample(store, sample, KEY).equal
    with pytest.raises(JobError, match="no watermark key"):
        replay_sample(store, sample)


def test_what_cannot_be_marked_is_rejected(tmp_path: Path) -> None:
    images = [*photos(3, 64, 64), np.full((64, 64, 3), 128, np.uint8), np.zeros((1, 1, 3), np.uint8)]
    write_shard(tmp_path / "data/a.parquet", images, ids=["a", "b", "c", "constant", "pixel"])
    out = run_marked(write_recipe(tmp_path, [{**FLIP, "copies": 1}], **MARKED))
    rejected = {row["source_id"]: row["rejected_reason"] for row in rows_of(out, "rejected")}
    assert rejected == {"constant": "unmarkable", "pixel": "unmarkable"}
    assert len(rows_of(out)) == 3
    assert verify_dataset(open_store(str(out)), KEY).ok


def test_another_key_is_another_plan(folder: Path) -> None:
    recipe = folder / "recipe.yaml"
    first, second = marked_plan(recipe), marked_plan(recipe, b"another key of sixteen bytes")
    assert {unit.digest for unit in first.units}.isdisjoint(unit.digest for unit in second.units)


def test_the_key_is_nowhere_in_the_data_set(folder: Path) -> None:
    for path in (folder / "out").rglob("*"):
        if path.is_file():
            assert KEY not in path.read_bytes()
            assert KEY.hex().encode() not in path.read_bytes()


@pytest.mark.slow
def test_trace_on_the_command_line(folder: Path, tmp_path: Path) -> None:
    key_file = tmp_path / "the.key"
    key_file.write_bytes(KEY)
    row = next(row for row in rows_of(folder / "out") if row["branch"] == "flipped")
    (tmp_path / "found.png").write_bytes(row["image"]["bytes"])
    (tmp_path / "other.png").write_bytes(photos(1, 96, 128, seed=9)[0])
    options = ["--dataset", str(folder / "out"), "--key-file", str(key_file)]
    found = palimpsest("trace", str(tmp_path / "found.png"), *options, "--json")
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["row"]["source_id"] == row["source_id"]
    assert "unless somebody means to mislead" in json.loads(found.stdout)["proves"]
    told = palimpsest("trace", str(tmp_path / "found.png"), *options).stdout
    assert "10^-12 at most" in told and "unless somebody means to mislead" in told
    missed = palimpsest("trace", str(tmp_path / "other.png"), *options)
    assert missed.returncode == 3
    assert "no mark" in missed.stdout
    keyless = palimpsest("trace", str(tmp_path / "found.png"), "--dataset", str(folder / "out"))
    assert keyless.returncode == 2
    assert "--key-file" in keyless.stderr
