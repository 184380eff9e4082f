"""Partner rows: drawn by seed, never the row itself, never one that cannot be used, and recorded in the lineage."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.audit.replay import replay_sample
from pipeline.audit.verify import verify_dataset
from pipeline.errors import RecipeError
from pipeline.execution.partners import Candidate, drawn_partner
from pipeline.operators.diffusion.diffusion_mix import DiffusionMix, DiffusionMixParams
from pipeline.operators.style.mix_style import MixStyle, MixStyleParams
from pipeline.seeding import sample_id
from pipeline.shards.columns.class_table import ClassTable
from pipeline.shards.images.codecs import decode
from pipeline.shards.output.store import open_store
from pipeline.shards.reader import SourceRow
from tests.audit.test_forgery import mend
from tests.fixtures.broken_images import ugly_rows
from tests.fixtures.commit_logs import change_rows, forget, unit_at
from tests.fixtures.data_sets import contents, plan_of, rows_of, run_here, write_input, write_recipe
from tests.fixtures.shard_files import photos, write_shard


def mixed(copies: int = 1, **other: Any) -> dict[str, Any]:
    return {"name": "mixed", "copies": copies, "operators": [{"mix_style": {"min_side_px": 1}}], **other}


CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress")
MIX_STYLE = MixStyle(MixStyleParams())


def candidates(count: int, labels: Sequence[int | None] = (0,)) -> list[Candidate]:
    return [
        Candidate(
            SourceRow(row, "/data/a.parquet", data, None, f"id-{row}", labels[row % len(labels)], {}),
            decode(data, 10**6),
        )
        for row, data in enumerate(photos(count))
    ]


def test_a_partner_is_another_row_and_every_other_row_equally_likely() -> None:
    known = candidates(5)
    counts: Counter[int] = Counter()
    for index in range(2000):
        found = drawn_partner(sample_id(7, "a", 2, "mixed", index), 0, known[2].row, known, MIX_STYLE, ClassTable())
        assert found is not None and found.partner.source_row is not None
        counts[found.partner.source_row] += 1
        row = known[found.partner.source_row]
        assert found.partner.sha256 == hashlib.sha256(row.row.data or b"").hexdigest()
        assert found.partner.source_id == row.row.id and found.pixels is row.pixels
    assert set(counts) == {0, 1, 3, 4}
    assert sum((count - 500) ** 2 / 500 for count in counts.values()) < 16.3  # 3 degrees, p = 0.001


def test_a_partner_follows_from_sample_and_step_alone() -> None:
    known, name = candidates(50), sample_id(7, "a", 2, "mixed", 0)
    found = [drawn_partner(name, step, known[2].row, known, MIX_STYLE, ClassTable()) for step in (0, 0, 1)]
    assert found[0] == found[1] != found[2]
    assert drawn_partner(name, 0, known[2].row, known[2:3], MIX_STYLE, ClassTable()) is None
    assert drawn_partner(name, 0, known[2].row, [], MIX_STYLE, ClassTable()) is None


def test_an_operator_may_ask_for_a_partner_of_another_class() -> None:
    mix = DiffusionMix(DiffusionMixParams(mix_with="row"))
    known = candidates(8, labels=(0, 1, None, 2))
    found = [
        drawn_partner(sample_id(7, "a", 0, "mixed", n), 0, known[0].row, known, mix, ClassTable()) for n in range(60)
    ]
    assert {row.partner.source_row for row in found if row} == {1, 3, 5, 7}
    assert {row.label for row in found if row} == {1, 2} and {row.partner.role for row in found if row} == {"mix"}
    assert drawn_partner(sample_id(7, "a", 0, "mixed", 0), 0, known[0].row, candidates(4), mix, ClassTable()) is None


def test_a_mix_of_classes_is_run_replayed_and_verified_with_the_row_it_was_made_with(tmp_path: Path) -> None:
    labels = [0, 1, 2, None, *[0] * 4]
    write_shard(tmp_path / "data/a.parquet", photos(8, 28), labels=labels, class_names=CLASSES)
    write_shard(tmp_path / "data/b.parquet", photos(2, 28), labels=[3, 3], class_names=CLASSES)
    mix = {
        "diffusion_mix": {
            "mix_with": "row",
            "force": True,
            "steps": 4,
            "strength_range": [0.5, 0.5],
            "partner_share": 0.5,
        }
    }
    manifest, _ = run_here(plan_of(write_recipe(tmp_path, [{"name": "mixed", "operators": [mix]}])))
    assert manifest.complete and (manifest.counts.accepted, manifest.counts.rejected) == (7, 2)
    assert [row["error_code"] for row in rows_of(tmp_path / "out", "quarantine")] == ["no_label"]
    for row in rows_of(tmp_path / "out", "rejected"):
        assert row["rejected_reason"] == "no_partner" and not row["partners"]
    for row in rows_of(tmp_path / "out"):
        (partner,) = row["partners"]
        params = json.loads(row["steps"][0]["params"])
        assert partner["role"] == "mix" and partner["source_row"] == params["partner_row"]
        assert labels[partner["source_row"]] == params["target"] != labels[row["source_row"]]
        assert params["weight"] == pytest.approx(0.75)
    store = open_store(str(tmp_path / "out"))
    assert verify_dataset(store).ok
    assert replay_sample(store, rows_of(tmp_path / "out")[0]["sample_id"]).equal


def test_unusable_rows_are_quarantined_and_nobodys_partner(tmp_path: Path) -> None:
    ugly = ugly_rows()
    write_shard(
        tmp_path / "data/a.parquet", [d for _, d, _ in ugly] + photos(6), ids=[str(i) for i in range(len(ugly) + 6)]
    )
    recipe = write_recipe(tmp_path, [mixed(copies=3)], output={"rows_per_unit": 100})
    manifest, _ = run_here(plan_of(recipe))
    assert manifest.complete and manifest.counts.rejected == 0
    broken = {str(index) for index, (_, _, code) in enumerate(ugly) if code != "ok"}
    assert {row["source_id"] for row in rows_of(tmp_path / "out", "quarantine")} == broken
    rows = rows_of(tmp_path / "out")
    assert len(rows) == 3 * (len(ugly) + 6 - len(broken))
    for row in rows:
        (partner,) = row["partners"]
        assert partner["role"] == "style" and partner["source_id"] not in broken | {row["source_id"]}
    assert verify_dataset(open_store(str(tmp_path / "out"))).ok


def test_partners_come_from_the_window_and_the_one_before_and_replay_finds_them(tmp_path: Path) -> None:
    write_input(tmp_path / "data", shards=1, rows=150)
    # windows of 64 images: of 32 rows with two copies
    recipe = write_recipe(tmp_path, [mixed(copies=2, where="label != 1")], output={"rows_per_unit": 150})
    plan = plan_of(recipe)
    manifest, _ = run_here(plan)
    assert manifest.complete
    rows = rows_of(tmp_path / "out")
    windows_back = Counter()
    for row in rows:
        (partner,) = row["partners"]
        assert partner["source_row"] % 3 != 1  # what `where` leaves out is no partner
        windows_back[row["source_row"] // 32 - partner["source_row"] // 32] += 1
    assert set(windows_back) == {0, 1}
    for row in (rows[0], rows[-1]):
        assert replay_sample(open_store(str(tmp_path / "out")), row["sample_id"]).equal
    before = contents(tmp_path / "out")
    unit = plan.units[0].name
    forget(tmp_path / "out", unit)
    run_here(plan)
    assert contents(tmp_path / "out") == before


def test_many_copies_still_leave_rows_to_choose_from(tmp_path: Path) -> None:
    write_input(tmp_path / "data", shards=1, rows=10)
    manifest, _ = run_here(plan_of(write_recipe(tmp_path, [mixed(copies=70)])))
    assert (manifest.counts.accepted, manifest.counts.rejected) == (700, 0)
    partners = {row["partners"][0]["source_row"] for row in rows_of(tmp_path / "out") if row["source_row"] == 0}
    assert partners == set(range(1, 8))  # the other rows of a window of eight


def test_a_row_alone_in_its_unit_is_rejected_and_not_lost(tmp_path: Path) -> None:
    write_input(tmp_path / "data", shards=1, rows=11)
    manifest, _ = run_here(plan_of(write_recipe(tmp_path, [mixed()])))  # units of ten rows
    assert (manifest.complete, manifest.counts.accepted, manifest.counts.rejected) == (True, 10, 1)
    (lost,) = rows_of(tmp_path / "out", "rejected")
    assert (lost["rejected_reason"], lost["source_row"], lost["partners"]) == ("no_partner", 10, [])
    assert verify_dataset(open_store(str(tmp_path / "out"))).ok


def test_a_partner_that_is_not_what_the_lineage_says_is_found(tmp_path: Path) -> None:
    write_input(tmp_path / "data", shards=1, rows=6)
    run_here(plan_of(write_recipe(tmp_path, [mixed()])))
    (path,) = (tmp_path / "out/data").glob("*.parquet")
    partners = pq.read_table(path).column("partners").to_pylist()
    partners[3][0]["sha256"] = "0" * 64

    def forged(table: pa.Table) -> pa.Table:
        place = table.schema.get_field_index("partners")
        field = table.schema.field(place)
        return table.set_column(place, field, pa.array(partners, field.type))

    change_rows(tmp_path / "out", unit_at(path), "data", forged)
    mend(tmp_path / "out")
    findings = verify_dataset(open_store(str(tmp_path / "out"))).findings
    row = partners[3][0]["source_row"]
    assert any(f"row {row}" in finding and "sha256" in finding for finding in findings), findings


def test_a_branch_without_source_rows_has_none_to_mix(tmp_path: Path) -> None:
    write_input(tmp_path / "data", shards=1, rows=6)
    made = {"name": "made", "count": 3, "operators": [{"gan_synth": {}}, {"mix_style": {}}]}
    with pytest.raises(RecipeError, match=r"operators\[1\]: mix_style mixes each image with another source row"):
        plan_of(write_recipe(tmp_path, [made]))
