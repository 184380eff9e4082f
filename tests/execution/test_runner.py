"""One unit, from source rows to committed files: every row is counted, and the bytes depend on the recipe alone."""

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

import pipeline.registry
from pipeline.contracts import Applied, Draws, ImageBatch, Operator, Parameters
from pipeline.errors import ConflictError, RowError
from pipeline.noise import Noise
from pipeline.shards.images.codecs import decode
from pipeline.shards.output.store import open_store
from tests.fixtures.broken_images import ugly_rows
from tests.fixtures.commit_logs import forget
from tests.fixtures.data_sets import CLASSES, FLIP, contents, plan_of, rows_of, run_here, write_input, write_recipe
from tests.fixtures.shard_files import photos, pictures, write_shard

CLASSICAL = {"name": "classic", "copies": 1, "operators": [{"classical": {"policy": "trivial_augment"}}]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_input(tmp_path / "data")
    return tmp_path


def test_every_image_is_there_once_with_its_lineage(folder: Path) -> None:
    manifest, _ = run_here(plan_of(write_recipe(folder, [FLIP, CLASSICAL], output={"keep_originals": True})))
    assert manifest.complete
    assert manifest.counts.accepted == 48 * 4
    rows = rows_of(folder / "out")
    assert len({row["sample_id"] for row in rows}) == len(rows) == 48 * 4
    asked = {
        (branch, copy) for branch, copies in (("flipped", 2), ("classic", 1), ("original", 1)) for copy in range(copies)
    }
    for shard in range(2):
        for index in range(24):
            found = [row for row in rows if row["source_id"] == f"{shard}-{index}"]
            assert {(row["branch"], row["copy_index"]) for row in found} == asked
            assert {row["label"] for row in found} == {index % 3}
            assert {row["source_row"] for row in found} == {index}


def test_a_row_says_how_it_was_made(folder: Path) -> None:
    run_here(plan_of(write_recipe(folder)))
    sources = {f"{shard}-{i}": data for shard in range(2) for i, data in enumerate(photos(24, seed=shard))}
    flipped = set()
    for row in rows_of(folder / "out"):
        (step,) = row["steps"]
        drawn = json.loads(step["params"])
        pixels = decode(sources[row["source_id"]], 10**6)
        expected = pixels[:, ::-1] if drawn["horizontal"] else pixels
        assert np.array_equal(decode(row["image"]["bytes"], 10**6), expected)
        assert row["image_sha256"] == hashlib.sha256(row["image"]["bytes"]).hexdigest()
        assert row["source_sha256"] == hashlib.sha256(sources[row["source_id"]]).hexdigest()
        assert row["digital_source_type"] == "algorithmicallyEnhanced"
        flipped.add(drawn["horizontal"])
    assert flipped == {True, False}


def test_originals_are_carried_byte_for_byte(folder: Path) -> None:
    run_here(plan_of(write_recipe(folder, output={"keep_originals": True})))
    originals = [row for row in rows_of(folder / "out") if row["branch"] == "original"]
    assert [row["image"]["bytes"] for row in originals] == [*photos(24, seed=0), *photos(24, seed=1)]
    assert all(row["steps"] == [] and row["digital_source_type"] is None for row in originals)


def test_running_again_does_nothing_and_a_lost_unit_comes_back_the_same(folder: Path) -> None:
    plan = plan_of(write_recipe(folder))
    run_here(plan)
    before = contents(folder / "out")
    _, outcomes = run_here(plan)
    assert outcomes == []
    unit = plan.units[1].name
    forget(folder / "out", unit)
    (folder / f"out/data/{unit}-0123456789abcdef.parquet").write_bytes(b"half a file")
    _, outcomes = run_here(plan)
    assert [outcome.unit for outcome in outcomes] == [unit]
    assert contents(folder / "out") == before


def test_another_recipe_in_the_same_place_is_refused(folder: Path) -> None:
    recipe = write_recipe(folder)
    run_here(plan_of(recipe))
    before = contents(folder / "out")
    with pytest.raises(ConflictError, match=r"makes otherwise.*seed was 7, and is 8"):
        run_here(plan_of(recipe, seed="8"))
    with pytest.raises(ConflictError, match=r"this plan does not make.*branch flipped is no longer in the recipe"):
        run_here(plan_of(write_recipe(folder, [{**FLIP, "name": "other"}])))
    assert contents(folder / "out") == before


def test_a_further_branch_and_shard_reuse_what_is_there(folder: Path) -> None:
    _, first = run_here(plan_of(write_recipe(folder)))
    before = contents(folder / "out")
    write_shard(
        folder / "data/train-00002.parquet", photos(4, seed=3), labels=[0] * 4, ids=list("abcd"), class_names=CLASSES
    )
    manifest, second = run_here(plan_of(write_recipe(folder, [FLIP, CLASSICAL])))
    made = {outcome.unit for outcome in second}
    assert not made & {outcome.unit for outcome in first}
    assert manifest.complete
    after = contents(folder / "out")
    assert {name: after[name] for name in before} == before


def test_a_strange_file_stops_publishing(folder: Path) -> None:
    plan = plan_of(write_recipe(folder))
    (folder / "out/data").mkdir(parents=True)
    (folder / "out/data/mine.parquet").write_bytes(b"x")
    with pytest.raises(ConflictError, match=r"mine\.parquet.*no record"):
        run_here(plan)


def test_every_ugly_row_is_accounted_for(tmp_path: Path) -> None:
    ugly = ugly_rows()
    write_shard(
        tmp_path / "data/a.parquet",
        [data for _, data, _ in ugly] + [None],
        ids=[name for name, _, _ in ugly] + ["null"],
    )
    manifest, _ = run_here(plan_of(write_recipe(tmp_path, [FLIP, CLASSICAL], output={"keep_originals": True})))
    assert manifest.complete
    expected = {name: code for name, _, code in ugly} | {"null": "null_image"}
    fine = {name for name, code in expected.items() if code == "ok"}
    assert fine
    accepted = rows_of(tmp_path / "out")
    for branch, copies in (("flipped", 2), ("classic", 1), ("original", 1)):
        assert {r["source_id"] for r in accepted if r["branch"] == branch} == fine
        assert sum(r["branch"] == branch for r in accepted) == copies * len(fine)
        lost = {
            r["source_id"]: r["error_code"] for r in rows_of(tmp_path / "out", "quarantine") if r["branch"] == branch
        }
        assert lost == {name: code for name, code in expected.items() if code != "ok"}
    kept = {r["source_id"]: r["image"]["bytes"] for r in rows_of(tmp_path / "out", "quarantine")}
    given = {name: data for name, data, _ in ugly} | {"null": None}
    assert all(data == given[name] for name, data in kept.items())


@pytest.mark.parametrize(
    ("output", "mode", "size"),
    [
        ({}, {"RGB", "L"}, {(32, 24), (28, 28), (9, 50)}),
        ({"size": 20}, {"RGB", "L"}, {(20, 20)}),
        ({"channels": "rgb", "encoding": "jpeg"}, {"RGB"}, {(32, 24), (28, 28), (9, 50)}),
        ({"channels": "grey"}, {"L"}, {(32, 24), (28, 28), (9, 50)}),
    ],
)
def test_mixed_sizes_and_colours(
    tmp_path: Path, output: dict[str, Any], mode: set[str], size: set[tuple[int, int]]
) -> None:
    images = [*pictures(4), *pictures(4, 28, 28, channels=1), *pictures(4, 50, 9)]
    write_shard(tmp_path / "data/a.parquet", [images[i] for i in (0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11)])
    run_here(plan_of(write_recipe(tmp_path, [CLASSICAL], output=output)))
    made = [Image.open(io.BytesIO(row["image"]["bytes"])) for row in rows_of(tmp_path / "out")]
    assert len(made) == 12
    assert {image.mode for image in made} == mode
    assert {image.size for image in made} == size
    assert {image.format for image in made} == {output.get("encoding", "png").upper()}


def test_where_selects_rows(folder: Path) -> None:
    chosen = {**FLIP, "where": 'label in (0, 2) and id != "0-3"'}
    manifest, _ = run_here(plan_of(write_recipe(folder, [chosen])))
    rows = rows_of(folder / "out")
    assert {row["label"] for row in rows} == {0, 2}
    assert "0-3" not in {row["source_id"] for row in rows}
    assert manifest.counts.selected == 31


def test_unlabelled_rows_without_ids(tmp_path: Path) -> None:
    write_shard(tmp_path / "data/a.parquet", photos(5), kind="bytes")
    manifest, _ = run_here(plan_of(write_recipe(tmp_path)))
    rows = rows_of(tmp_path / "out")
    assert manifest.complete
    assert {(row["label"], row["source_id"]) for row in rows} == {(None, None)}


class PickyParams(Parameters):
    pass


class Picky(Operator):
    """Refuses some images in each of the ways there are; the rest are inverted."""

    name = "picky"
    version = 1
    source = "this test"
    Params = PickyParams
    uses_torch = False
    calls: ClassVar[list[int]] = []

    def draw(self, batch: ImageBatch) -> Draws:
        return Draws({"shade": [seed % 5 for seed in batch.seeds]})

    def apply(self, batch: ImageBatch, draws: Draws, noise: Noise) -> Applied:
        assert batch.images is not None
        self.calls.append(len(batch))
        shades = list(draws.columns["shade"])
        if 0 in shades:
            raise RuntimeError("no image of shade 0")
        return Applied(
            images=255 - batch.images,
            rejected={i: "too_pale" for i, shade in enumerate(shades) if shade == 1},
            errors={i: RowError("unreadable", "no") for i, shade in enumerate(shades) if shade == 2},
        )


class AlwaysBroken(Picky):
    """Fails on everything."""

    name = "broken"

    def apply(self, batch: ImageBatch, draws: Draws, noise: Noise) -> Applied:
        raise RuntimeError("out of order")


@pytest.fixture
def test_operators(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(pipeline.registry.OPERATORS, "picky", "tests.execution.test_runner:Picky")
    monkeypatch.setitem(pipeline.registry.OPERATORS, "broken", "tests.execution.test_runner:AlwaysBroken")
    yield


@pytest.mark.usefixtures("test_operators")
def test_rejected_and_failed_images_are_accounted_for(folder: Path) -> None:
    picky = {"name": "picked", "copies": 3, "operators": [{"picky": {}}]}
    manifest, _ = run_here(plan_of(write_recipe(folder, [picky])))
    assert manifest.complete
    accepted, rejected, quarantined = (rows_of(folder / "out", name) for name in ("data", "rejected", "quarantine"))
    assert accepted
    assert rejected
    assert quarantined
    assert len(accepted) + len(rejected) + 3 * len(quarantined) == 48 * 3
    assert {row["rejected_reason"] for row in rejected} == {"too_pale"}
    assert {row["error_code"] for row in quarantined} <= {"unreadable", "operator_failed"}
    assert any("no image of shade 0" in row["error_message"] for row in quarantined)
    kept = {row["source_id"] for row in accepted + rejected}
    assert not kept & {row["source_id"] for row in quarantined}


@pytest.mark.usefixtures("test_operators")
def test_a_broken_operator_fails_its_units_and_no_others(folder: Path) -> None:
    broken = {"name": "broken", "copies": 1, "operators": [{"broken": {}}]}
    manifest, _ = run_here(plan_of(write_recipe(folder, [broken, FLIP])))
    assert not manifest.complete
    assert manifest.counts.accepted == 96
    assert len(manifest.failed) == 6
    store = open_store(str(folder / "out"))
    assert "out of order" in store.read(f"_failed/{manifest.failed[0]}.json").decode()
