"""Gates in a whole run: refused images are made again, every image is accounted for, and each can be replayed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.audit.replay import replay_sample
from pipeline.audit.report import write_report
from pipeline.monitoring.progress import Progress, summary
from pipeline.publishing.manifest import read_manifest
from pipeline.seeding import sample_id, synthetic_id
from pipeline.shards.output.store import open_store
from tests.audit.test_trace import KEY, MARKED, run_marked
from tests.fixtures.commit_logs import forget, records_in
from tests.fixtures.data_sets import FLIP, contents, findings, plan_of, rows_of, run_here, write_input, write_recipe
from tests.fixtures.gated import GATES, SIMILARITY, attempts_of, first, rewrite
from tests.fixtures.shard_files import photos, write_shard


def test_what_is_refused_is_made_again_and_the_sums_hold(gated: Path) -> None:
    images = attempts_of(gated / "out")
    counts = read_manifest(open_store(str(gated / "out"))).branches["flipped"]
    assert len(images) == 96 == counts.accepted + counts.rejected
    lengths = {len(rows) for rows in images.values()}
    assert lengths == {1, 2, 3}
    refused_for_good = [rows for rows in images.values() if "rejected_reason" in rows[-1]]
    assert len(refused_for_good) == counts.rejected > 0
    assert all(len(rows) == 3 for rows in refused_for_good)
    assert counts.retried == sum(len(rows) - 1 for rows in images.values()) > counts.rejected
    for rows in images.values():
        assert [row["attempt"] for row in rows] == list(range(len(rows)))
        assert all(row["rejected_reason"] == "similarity" for row in rows[:-1])
    assert findings(gated / "out") == []


def test_every_attempt_has_its_own_id_draws_and_scores(gated: Path) -> None:
    seen = set()
    for rows in attempts_of(gated / "out").values():
        for row in rows:
            shard = f"train-{int(row['source_id'].split('-')[0]):05d}.parquet"
            place = (7, shard, row["source_row"], "flipped", row["copy_index"], row["attempt"])
            assert row["sample_id"] == sample_id(*place)
            seen.add(row["sample_id"])
            assert [score["gate"] for score in row["quality"]] == GATES
            flipped = json.loads(row["steps"][0]["params"])["horizontal"]
            assert flipped == ("rejected_reason" not in row)
            assert row["quality"][0]["score"] == 1.0 or flipped
            assert row["quality"][1]["score"] == pytest.approx(1, abs=1e-3)
    assert len(seen) == sum(len(rows) for rows in attempts_of(gated / "out").values())


def test_originals_are_not_judged(gated: Path) -> None:
    rows = [row for row in rows_of(gated / "out") if row["branch"] == "original"]
    assert len(rows) == 48 and all(row["quality"] == [] and row["attempt"] == 0 for row in rows)


def test_a_lost_unit_comes_back_the_same(gated_copy: Path, gated: Path) -> None:
    before = contents(gated_copy)
    assert any(name.startswith("rejected/") for name in before)
    plan = plan_of(gated / "recipe.yaml", output__uri=str(gated_copy))
    lost = [unit.name for unit in plan.units if unit.branch == "flipped"][1:3]
    for name in lost:
        rejected = gated_copy / records_in(gated_copy)[name].files["rejected"].path
        forget(gated_copy, name)
        rejected.write_bytes(b"half a file")
    _, outcomes = run_here(plan)
    assert [outcome.unit for outcome in outcomes] == lost
    assert contents(gated_copy) == before


def test_images_do_not_depend_on_who_is_made_again_beside_them(gated: Path, tmp_path: Path) -> None:
    recipe = gated / "recipe.yaml"
    changes = {"output__rows_per_unit": "48", "numerics__micro_batch": "7", "output__uri": str(tmp_path / "again")}
    run_here(plan_of(recipe, **changes))
    for folder in ("data", "rejected"):
        one, other = (
            {row["sample_id"]: (row["image"]["bytes"], row["quality"]) for row in rows_of(out, folder)}
            for out in (gated / "out", tmp_path / "again")
        )
        assert one == other and one
    assert findings(tmp_path / "again") == []


def test_every_kind_of_attempt_is_made_again(gated: Path) -> None:
    store = open_store(str(gated / "out"))
    images = attempts_of(gated / "out").values()
    third = next(rows[-1] for rows in images if len(rows) == 3 and "rejected_reason" not in rows[-1])
    for_good = next(rows for rows in images if "rejected_reason" in rows[-1])
    for row in (third, for_good[0], for_good[1], for_good[2]):
        again = replay_sample(store, row["sample_id"])
        assert again.equal and again.replayed["attempt"] == row["attempt"], again.differs
    assert again.replayed["rejected_reason"] == "similarity"


def test_replay_sees_another_verdict(gated_copy: Path) -> None:
    rewrite(gated_copy, "data", "quality", lambda rows: [[{**s, "score": 0.5} for s in scores] for scores in rows])
    row = pq.read_table(first(gated_copy, "data")).to_pylist()[0]
    again = replay_sample(open_store(str(gated_copy)), row["sample_id"])
    assert again.differs == ["quality"] and not again.equal


# ---- marks, synthesis, models ----


def test_refused_images_are_marked_too(tmp_path: Path) -> None:
    write_shard(tmp_path / "data/a.parquet", photos(8, 96, 128), labels=[0] * 8, ids=[str(i) for i in range(8)])
    out = run_marked(write_recipe(tmp_path, [FLIP], **MARKED, quality={"gates": [SIMILARITY], "max_attempts": 2}))
    rejected = rows_of(out, "rejected")
    assert rejected and all(row["watermarks"][0]["verified"] for row in rejected)
    payloads = [row["watermarks"][0]["payload"] for row in rows_of(out) + rejected]
    assert len(set(payloads)) == len(payloads)
    assert findings(out, KEY) == []
    later = next(row for row in rows_of(out) if row["attempt"] == 1)
    assert replay_sample(open_store(str(out)), later["sample_id"], KEY).equal


def test_synthesis_is_judged_and_made_again(tmp_path: Path) -> None:
    write_input(tmp_path / "data", shards=1, rows=6)
    branch = {"name": "new", "per_class": 12, "operators": [{"gan_synth": {"force": True}}]}
    classes = ("trouser", "bag", "sandal")
    write_shard(tmp_path / "data/train-00000.parquet", photos(6), labels=[0, 1, 2] * 2, class_names=classes)
    quality = {"gates": [{"blank": {"max_share": 0.55}}], "max_attempts": 3}
    manifest, _ = run_here(plan_of(write_recipe(tmp_path, [branch], quality=quality)))
    assert manifest.complete
    accepted, rejected = rows_of(tmp_path / "out"), rows_of(tmp_path / "out", "rejected")
    last = [row for row in rejected if row["attempt"] == 2]
    assert len(accepted) + len(last) == 36
    assert accepted and last and any(row["attempt"] for row in accepted)
    ids = {synthetic_id(7, "new", label, index, k) for label in range(3) for index in range(12) for k in range(3)}
    assert {row["sample_id"] for row in accepted + rejected} <= ids
    assert manifest.counts.retried == len(rejected) - len(last)
    assert findings(tmp_path / "out") == []
    for row in (next(row for row in accepted if row["attempt"] == 1), last[0]):
        assert replay_sample(open_store(str(tmp_path / "out")), row["sample_id"]).equal


def test_a_clip_gate_from_a_folder(tmp_path: Path, tiny: Callable[[str], Path]) -> None:
    write_input(tmp_path / "data", shards=1, rows=12)
    shutil.copytree(tiny("clip"), tmp_path / "clip")
    quality = {"gates": [{"clip": {"model": "clip", "mode": "top_class"}}], "max_attempts": 2}
    recipe = write_recipe(
        tmp_path, [{**FLIP, "operators": [{"classical": {"policy": "trivial_augment"}}]}], quality=quality
    )
    plan = plan_of(recipe)
    manifest, _ = run_here(plan)
    assert {model.reference for model in manifest.models} == {"clip"}
    accepted, rejected = rows_of(tmp_path / "out"), rows_of(tmp_path / "out", "rejected")
    assert accepted and rejected
    assert all(row["quality"][0]["score"] >= 0 for row in accepted)
    assert all(row["quality"][0]["score"] < 0 for row in rejected)
    assert findings(tmp_path / "out") == []
    assert replay_sample(open_store(str(tmp_path / "out")), rejected[-1]["sample_id"]).equal
    shutil.move(tmp_path / "clip", tmp_path / "elsewhere")
    moved = plan_of(recipe, quality__gates__clip__model="elsewhere")
    assert [unit.digest for unit in moved.units] == [unit.digest for unit in plan.units]
    config = tmp_path / "elsewhere/config.json"
    config.write_text(config.read_text().replace('"eos_token_id"', '"was_eos_token_id"', 1))
    changed = plan_of(recipe, quality__gates__clip__model="elsewhere")
    assert not {unit.digest for unit in changed.units} & {unit.digest for unit in plan.units}


# ---- told ----


def test_the_report_and_the_summary_count_what_was_refused(gated: Path) -> None:
    store = open_store(str(gated / "out"))
    manifest = read_manifest(store)
    write_report(store, manifest)
    text = store.read("report/index.html").decode()
    refused = manifest.counts.rejected
    line = f"<tr><td>flipped</td><td>similarity</td><td>{refused}</td><td>1 · 1 · 1</td>"
    assert line in text
    assert "<td>flipped</td><td>blank</td><td>0</td><td></td><td>0." in text
    assert f"{manifest.counts.retried} refused images were made again" in text
    told = summary(manifest, Progress(plan_of(gated / "recipe.yaml")), "out")
    assert f"{manifest.counts.retried} more were refused by gates and made again" in told


def test_a_report_without_gates_has_no_table_of_them(tmp_path: Path) -> None:
    write_input(tmp_path / "data", shards=1, rows=3)
    manifest, _ = run_here(plan_of(write_recipe(tmp_path)))
    store = open_store(str(tmp_path / "out"))
    write_report(store, manifest)
    assert "<th>gate</th>" not in store.read("report/index.html").decode()
