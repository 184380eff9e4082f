"""The message of a conflict names what differs between the output and the plan."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.errors import ConflictError
from pipeline.operators.classical.flip import Flip
from pipeline.planning.planner import make_plan
from pipeline.planning.recipe_file import load_recipe
from pipeline.publishing.prepare import prepare
from pipeline.shards.output.store import open_store
from tests.fixtures.commit_logs import rewrite_log
from tests.fixtures.data_sets import FLIP, plan_of, run_here, write_input, write_recipe
from tests.fixtures.shard_files import photos, write_shard


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_input(tmp_path / "data", shards=2, rows=12)
    run_here(plan_of(write_recipe(tmp_path)))
    return tmp_path


def conflict(folder: Path, limit: int | None = None, **changes: str) -> str:
    plan = plan_of(folder / "recipe.yaml", limit, **changes)
    with pytest.raises(ConflictError) as error:
        prepare(plan, open_store(plan.output))
    text = str(error.value)
    assert "choose another output" in text and len(text) < 600 and "\n" not in text
    return text


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"seed": "8"}, "seed was 7, and is 8"),
        ({"output__rows_per_unit": "5"}, "output.rows_per_unit was 10, and is 5"),
        ({"output__encoding": "jpeg"}, "output.encoding was 'png', and is 'jpeg'"),
        ({"numerics__threads": "2"}, "numerics.threads was 1, and is 2"),
        ({"input__drop": "[id]"}, "input.drop"),
    ],
)
def test_a_recipe_that_changed_is_quoted(folder: Path, changes: dict[str, str], word: str) -> None:
    assert word in conflict(folder, **changes)


def test_a_parameter_that_changed_is_named(folder: Path) -> None:
    write_recipe(folder, [{**FLIP, "operators": [{"flip": {"probability": 0.6}}]}])
    assert "branches[0].operators[0].flip.probability was 0.5, and is 0.6" in conflict(folder)
    write_recipe(folder, [{**FLIP, "where": "label == 1"}])
    assert "branches[0].where was not given, and is 'label == 1'" in conflict(folder)


def test_a_branch_that_was_taken_out_is_named(folder: Path) -> None:
    write_recipe(folder, [{**FLIP, "name": "other"}])
    text = conflict(folder)
    assert "branch flipped is no longer in the recipe" in text and "\"'" not in text and "was [{" not in text


def test_a_limit_that_changed_is_named(folder: Path) -> None:
    assert "--limit was none, and is 5" in conflict(folder, limit=5)


def test_an_input_elsewhere_is_named_before_its_shards(folder: Path) -> None:
    for index in range(2):
        write_shard(folder / f"other/train-{index:05d}.parquet", photos(3, seed=9), labels=[0] * 3)
    said = conflict(folder, input__uri="other/*.parquet")
    assert "input.uri was 'data/*.parquet', and is 'other/*.parquet'; shard train-00000.parquet and 1 more have" in said


def test_a_shard_that_changed_is_named(folder: Path) -> None:
    labels = [row % 3 for row in range(12)]
    path = folder / "data/train-00001.parquet"
    table = pq.read_table(path)
    pq.write_table(table, path, row_group_size=7)
    assert "shard train-00001.parquet has changed since" in conflict(folder)
    path.unlink()
    assert "shard train-00001.parquet is no longer in the input" in conflict(folder)
    assert "--limit was none, and is 5; shard train-00001.parquet is no" in conflict(folder, limit=5)
    write_shard(path, photos(12, seed=1), labels=labels)


def test_a_label_that_was_corrected_in_place_is_named(tmp_path: Path) -> None:
    path = tmp_path / "data/train.parquet"
    write_input(tmp_path / "data", shards=1, rows=12)
    table = pq.read_table(tmp_path / "data/train-00000.parquet")
    (tmp_path / "data/train-00000.parquet").unlink()

    def write(labels: list[int]) -> None:
        place = table.schema.get_field_index("label")
        changed = table.set_column(place, table.schema.field(place), [labels])
        pq.write_table(changed, path, write_statistics=False, compression="none", use_dictionary=False)

    write([0, 1, 2] * 4)
    recipe = write_recipe(tmp_path)
    assert run_here(plan_of(recipe))[0].complete
    size = path.stat().st_size
    write([0, 1, 2] * 3 + [0, 1, 1])
    assert path.stat().st_size == size
    assert "shard train.parquet has changed since, in column label;" in conflict(tmp_path)


def test_an_operator_of_another_version_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = Flip.version
    monkeypatch.setattr(Flip, "version", version + 1)
    assert f"operator flip was version {version}, and is {version + 1}" in conflict(folder)


def test_another_key_is_named(folder: Path) -> None:
    recipe = folder / "recipe.yaml"
    loaded, base = load_recipe(str(recipe), ["watermark={scheme: stdm, psnr_db: 42}", f"output.uri={folder}/marked"])
    plan, other = (make_plan(loaded, base, key_id=name * 8) for name in ("ab", "cd"))
    store = open_store(plan.output)
    prepare(plan, store)
    from pipeline.publishing.differences import difference_text
    from pipeline.publishing.manifest import read_manifest

    assert difference_text(read_manifest(store), plan) == ""
    assert (
        difference_text(read_manifest(store), other)
        == "the watermark key was 'abababababababab', and is 'cdcdcdcdcdcdcdcd'"
    )


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda m: [shard.pop("columns") for shard in m["shards"]], "did not hash labels"),
        (lambda m: m.update(palimpsest="0.0.9"), "made by Palimpsest 0.0.9, and this is"),
    ],
)
def test_an_earlier_version_is_named(folder: Path, change: Callable[[dict[str, Any]], Any], word: str) -> None:
    manifest = json.loads((folder / "out/manifest.json").read_text())
    change(manifest)
    (folder / "out/manifest.json").write_text(json.dumps(manifest))
    rewrite_log(folder / "out", lambda record: record.model_copy(update={"digest": "0" * 64}))
    assert word in conflict(folder)


def test_a_shard_that_was_written_again_with_the_same_content_is_a_note(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = folder / "data/train-00000.parquet"
    data = path.read_bytes()
    path.write_bytes(data)
    assert run_here(plan_of(folder / "recipe.yaml"))[1] == []
    assert "shard train-00000.parquet: written again since the last run" in caplog.text
    caplog.clear()
    run_here(plan_of(folder / "recipe.yaml"))
    assert caplog.text == ""
