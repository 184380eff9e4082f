"""`verify` finds what was changed, and `replay` makes stored images again."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.cli import main
from pipeline.audit.replay import replay_sample
from pipeline.audit.verification import Verification
from pipeline.audit.verify import Scope, verify_dataset
from pipeline.errors import InputError
from pipeline.shards.output.store import open_store
from tests.fixtures.commit_logs import change_rows, forget, put, records_in, unit_at, update
from tests.fixtures.data_sets import FLIP, contents, findings, plan_of, rows_of, run_here, write_input, write_recipe

CLASSICAL = {"name": "classic", "copies": 1, "operators": [{"classical": {"policy": "aug_mix"}}]}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    write_input(folder / "data", rows=12)
    run_here(plan_of(write_recipe(folder, [FLIP, CLASSICAL], output={"keep_originals": True})))
    return folder


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil; its sources stay where they are."""
    return Path(shutil.copytree(made / "out", tmp_path / "out"))


def first_file(out: Path, branch: str = "flipped") -> Path:
    return sorted((out / "data").glob(f"{branch}-*.parquet"))[0]


def rewrite(out: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Change a data file and cover the tracks: its record names the new sha256."""
    change_rows(out, unit_at(first_file(out)), "data", change)


def test_what_was_made_verifies(out: Path) -> None:
    found = verify_dataset(open_store(str(out)))
    assert found.findings == []
    assert (found.images, found.source_links) == (24 * 4, 24)


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_a_tampered_byte_is_found(out: Path, place: float) -> None:
    path = first_file(out)
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 1
    path.write_bytes(data)
    assert any(path.name in finding for finding in findings(out))


def test_a_missing_file_a_strange_file_and_a_missing_record_are_found(out: Path) -> None:
    path = first_file(out)
    path.rename(out / "data/other.parquet")
    found = findings(out)
    assert f"data/{path.name}: the file is missing" in found
    assert "data/other.parquet: no record names this file" in found
    forget(out, unit_at(path), files=False)
    found = findings(out)
    assert "12 units planned, 11 records found" in found
    assert "the commit log is not the one the manifest was written for" in found


def test_a_segment_whose_bytes_changed_is_named(out: Path) -> None:
    (segment,) = (out / "_commits").iterdir()
    shutil.copy(segment, out / "_commits" / f"{'0' * 64}.parquet")
    line = f"_commits/{'0' * 64}.parquet: its content does not match its name; remove it and run again"
    assert any(each.startswith(line) for each in findings(out))
    segment.write_bytes(segment.read_bytes()[:-9])
    assert any(f"{segment.name}: this segment of the commit log cannot be read" in each for each in findings(out))


def set_column(name: str, change: Callable[[list[object]], list[object]]) -> Callable[[pa.Table], pa.Table]:
    def changed(table: pa.Table) -> pa.Table:
        index = table.schema.get_field_index(name)
        values = pa.array(change(table.column(index).to_pylist()), table.schema.field(index).type)
        return table.set_column(index, table.schema.field(index), values)

    return changed


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda table: table.slice(1), "rows"),
        (lambda table: pa.concat_tables([table.slice(0, 1), table.slice(0, table.num_rows - 1)]), "more than once"),
        (set_column("source_row", lambda values: [0 for _ in values]), "seed and source"),
        (set_column("source_sha256", lambda values: ["0" * 64 for _ in values]), "differs"),
        (set_column("image_sha256", lambda values: ["0" * 64 for _ in values]), "image"),
        (set_column("unit_digest", lambda values: ["0" * 64 for _ in values]), "unit_digest"),
        (set_column("steps", lambda values: [[{**step, "seed": 1} for step in steps] for steps in values]), "seed"),
        (set_column("copy_index", lambda values: [5 for _ in values]), "seed and source"),
    ],
)
def test_a_tampered_row_is_found_even_under_a_new_record(
    out: Path, change: Callable[[pa.Table], pa.Table], word: str
) -> None:
    rewrite(out, change)
    found = findings(out)
    assert any(word in finding for finding in found), found
    assert "the commit log is not the one the manifest was written for" in found


def test_the_index_of_rows_in_the_log_is_compared_with_the_rows(out: Path) -> None:
    unit = unit_at(first_file(out))
    update(out, unit, sample_ids=records_in(out)[unit].sample_ids[::-1])
    assert f"unit {unit}: the index of its rows in the commit log is not that of its rows" in findings(out)


def test_units_that_share_rows_are_found(out: Path) -> None:
    unit = unit_at(first_file(out))
    record = records_in(out)[unit]
    twin = record.model_copy(update={"unit": f"{record.unit[:-9]}{record.first + 1:09d}", "first": record.first + 1})
    put(out, [twin])
    found = findings(out)
    assert f"branch flipped: units share rows of shard {record.shard}, so images are there more than once" in found
    forget(out, twin.unit, files=False)
    put(out, [record.model_copy(update={"unit": "another"})])
    assert f"unit another: its rows are those of unit {unit}" in findings(out)


def test_a_sample_reads_some_units_and_still_finds_what_names_sizes_and_records_tell(out: Path) -> None:
    store = open_store(str(out))
    whole = verify_dataset(store)
    found = verify_dataset(store, scope=Scope(0.3, seed=5))
    assert found.ok and 0 < found.images < whole.images and found == verify_dataset(store, scope=Scope(0.3, seed=5))
    (told,) = (note for note in found.notes if "were read, drawn by seed 5" in note)
    chosen = int(told.split(" ")[0])
    assert 0 < chosen < 12 and f"{chosen} of 12 units" in told
    assert verify_dataset(store, scope=Scope(1e-9)).files == 1  # always one
    read = {path.name for path in (out / "data").iterdir()} - unread_after_a_change(out)
    assert len(read) == chosen
    paths = [path for path in sorted((out / "data").iterdir()) if path.name not in read]
    paths[0].unlink()
    paths[1].write_bytes(paths[1].read_bytes() + b"more")
    size = paths[1].stat().st_size
    shutil.copy(paths[2], out / "data/extra.parquet")
    assert {*verify_dataset(store, scope=Scope(0.3, seed=5)).findings} == {
        f"data/{paths[0].name}: the file is missing",
        f"data/{paths[1].name}: {size} bytes, and its record says {size - 4}",
        "data/extra.parquet: no record names this file",
    }


def unread_after_a_change(out: Path) -> set[str]:
    """Return the names of files in which a sample does not see another byte of the same size."""
    unread = set()
    for path in (out / "data").iterdir():
        data = path.read_bytes()
        path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
        if verify_dataset(open_store(str(out)), scope=Scope(0.3, seed=5)).ok:
            unread.add(path.name)
        path.write_bytes(data)
    return unread


@pytest.mark.parametrize("share", [0.0, -0.1, 1.5, float("nan")])
def test_a_share_that_is_none_is_one_line(out: Path, share: float, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(out), "--sample", str(share)]) == 2
    assert "it must be above 0 and at most 1" in capsys.readouterr().err


def test_of_very_many_findings_the_first_are_kept_and_the_rest_counted() -> None:
    found = Verification()
    found.extend(f"finding {number % 1_500}" for number in range(3_000))
    part = Verification(findings=["finding 1", "another"], more=7)
    found.include(part)
    assert found.findings == [f"finding {number}" for number in range(1_000)]
    assert found.more == 2 * 500 + 1 + 7 and not found.ok


def test_a_changed_source_is_found(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "moved"
    shutil.copytree(made / "data", folder / "data")
    run_here(plan_of(write_recipe(folder)))
    shard = folder / "data/train-00000.parquet"
    data = bytearray(shard.read_bytes())
    data[data.index(b"IDAT", 5_000) + 6] ^= 1  # inside an image: the footer stays the same
    shard.write_bytes(data)
    assert any("source bytes are not those" in finding for finding in findings(folder / "out"))
    shard.unlink()
    found = verify_dataset(open_store(str(folder / "out")))
    assert found.ok
    assert any("not checked" in note for note in found.notes)


def test_a_counted_lie_is_found(out: Path) -> None:
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["counts"]["accepted"] += 1
    (out / "manifest.json").write_text(json.dumps(manifest))
    assert any("counts" in finding for finding in findings(out))


def test_what_is_no_data_set_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"manifest\.json"):
        verify_dataset(open_store(str(tmp_path)))


@pytest.mark.parametrize("branch", ["flipped", "classic", "original"])
def test_replay_makes_the_same_image(made: Path, branch: str) -> None:
    rows = [row for row in rows_of(made / "out") if row["branch"] == branch]
    again = replay_sample(open_store(str(made / "out")), rows[7]["sample_id"])
    assert again.equal
    assert again.grey_levels == 0


def test_replay_says_how_far_off_a_stored_image_is(out: Path) -> None:
    rewrite(out, set_column("image", lambda values: values[5:] + values[:5]))
    sample = pq.read_table(first_file(out)).column("sample_id")[0].as_py()
    again = replay_sample(open_store(str(out)), sample)
    assert not again.equal
    assert again.grey_levels > 0
    with pytest.raises(InputError, match="no image"):
        replay_sample(open_store(str(out)), "0" * 32)


def test_the_same_recipe_elsewhere_gives_the_same_bytes(made: Path, tmp_path: Path) -> None:
    recipe = made / "recipe.yaml"
    run_here(plan_of(recipe, output__uri=str(tmp_path / "again")))
    assert contents(tmp_path / "again") == contents(made / "out")
