"""Forged data sets whose checksums and sums fit: `verify` finds what is left, and shows no traceback."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.cli import main
from pipeline.audit.verify import verify_dataset
from pipeline.errors import InputError
from pipeline.shards.output.commit_log import CommitLog
from pipeline.shards.output.counts import count
from pipeline.shards.output.record_columns import record_hash
from pipeline.shards.output.store import open_store
from tests.audit.test_trace import KEY, MARKED, run_marked
from tests.fixtures.commit_logs import change_file, change_rows, put, records_in, unit_at, update
from tests.fixtures.data_sets import FLIP, findings, write_input, write_recipe
from tests.fixtures.shard_files import photos, write_shard


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A marked data set, and sources of which one row cannot be used."""
    folder = tmp_path_factory.mktemp("made")
    images: list[Any] = photos(7, 96, 128)
    write_shard(folder / "data/a.parquet", [*images, b"junk"], labels=[0] * 8, ids=list("abcdefgh"))
    run_marked(write_recipe(folder, [FLIP], **MARKED, output={"keep_originals": True}))
    return folder


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "out", tmp_path / "out"))


def forge(out: Path, change: Callable[[pa.Table], pa.Table], folder: str = "data", **fields: Any) -> None:
    """Change a file of the flipped unit, and fields of its record; mend the log and the manifest."""
    change_rows(out, unit_name(out), folder, change, **fields)
    mend(out)


def mend(out: Path) -> None:
    """Let the manifest be that of the log."""
    records = records_in(out)

    def update(manifest: dict[str, Any]) -> None:
        places = [chain["name"] for chain in manifest["chains"]]
        ordered = sorted(records.values(), key=lambda record: (places.index(record.branch), record.first))
        manifest["commits"]["sha256"] = hashlib.sha256(b"".join(map(record_hash, ordered))).hexdigest()
        manifest["commits"]["segments"] = [each.model_dump() for each in CommitLog(open_store(str(out))).described()]
        manifest["counts"] = count(ordered).model_dump()
        for name in manifest["branches"]:
            manifest["branches"][name] = count(m for m in ordered if m.branch == name).model_dump()

    edit(out, update)


def edit(out: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = out / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def column(name: str, change: Callable[[Any], Any]) -> Callable[[pa.Table], pa.Table]:
    def changed(table: pa.Table) -> pa.Table:
        place = table.schema.get_field_index(name)
        values = [change(value) for value in table.column(place).to_pylist()]
        return table.set_column(place, table.schema.field(place), pa.array(values, table.schema.field(place).type))

    return changed


def each(**values: Any) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    return lambda items: [{**item, **values} for item in items]


def test_what_was_made_and_marked_verifies(out: Path) -> None:
    found = verify_dataset(open_store(str(out)), KEY)
    assert found.findings == []
    assert (found.images, found.watermarks, found.source_links) == (21, 14, 8)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda table: table.take(list(range(len(table) - 1, -1, -1))), "not in the order rows are made in"),
        (lambda table: table.slice(1), "holds 13 rows, and its record says 14"),
        (lambda table: table.drop_columns(["steps"]), "column steps is missing"),
        (lambda table: table.drop_columns(["digital_source_type"]), "column digital_source_type is missing"),
        (lambda table: table.drop_columns(["id"]), "differ from its own: id"),
        (column("branch", lambda _: "original"), "branch 'original' is not its unit's"),
        (column("source_uri", lambda _: "/elsewhere/b.parquet"), "not its unit's shard"),
        (column("steps", each(operator="classical")), "its steps"),
        (column("steps", each(version=9)), "its steps"),
        (column("steps", each(model_sha256="0" * 64)), "its steps"),
        (column("steps", lambda _: []), "its steps"),
        (column("steps", lambda _: None), "malformed"),
        (column("watermarks", each(verified=False)), "its mark was not verified"),
        (column("watermarks", each(key_id="0" * 16)), "another scheme or key"),
        (column("watermarks", lambda _: []), "0 marks recorded"),
        (column("watermarks", lambda _: None), "malformed"),
        (column("label", lambda _: 1), "its label is 0, and images made from it say 1"),
        (column("source_id", lambda _: "z"), "source_id differs from another copy's"),
        (column("soft_label", lambda _: [0.5, 0.5]), "no operator of its branch mixes"),
        (column("image", lambda _: {"bytes": b"junk", "path": None}), "cannot be decoded"),
        (column("image", lambda _: None), "malformed"),
        (column("image", lambda _: {"bytes": photos(1, 1, 1)[0], "path": None}), "the image is not the one"),
        (column("sample_id", lambda _: None), "malformed"),
    ],
)
@pytest.mark.parametrize("key", [None, KEY], ids=["no key", "key"])
def test_a_forged_row_is_found_though_every_checksum_is_mended(
    out: Path, change: Callable[[pa.Table], pa.Table], word: str, key: bytes | None
) -> None:
    forge(out, change)
    assert any(word in finding for finding in findings(out, key)), findings(out, key)


def test_a_row_that_vanished_with_all_its_copies_is_found_though_every_sum_is_mended(out: Path) -> None:
    forge(out, lambda table: table.slice(2), selected=7, accepted=12)
    assert findings(out) == [f"unit {unit_name(out)}: 7 of 8 rows selected, and its branch selects all"]


def unit_name(out: Path) -> str:
    return unit_at(next((out / "data").glob("flipped-*.parquet")))


def test_a_quarantine_that_is_emptied_or_doubled_is_found(out: Path) -> None:
    forge(out, lambda table: table.slice(1), "quarantine")
    assert any("quarantine/ holds 0 rows" in finding for finding in findings(out))
    shutil.rmtree(out / "quarantine")
    assert any("missing" in finding for finding in findings(out))


@pytest.mark.parametrize("name", ["reasons", "quarantine_reasons"])
def test_reasons_that_no_row_has_are_found(out: Path, name: str) -> None:
    update(out, unit_name(out), **{name: {"too_large": 1}})
    mend(out)
    assert any(f"{name} {{'too_large': 1}} by its record" in finding for finding in findings(out)), findings(out)


def test_a_second_record_of_a_unit_is_no_way_around_its_first(out: Path) -> None:
    record = records_in(out)[unit_name(out)]
    put(out, [record.model_copy(update={"run": record.run + 1, "quarantine_reasons": {"too_large": 1}})])
    assert any("quarantine_reasons {'too_large': 1} by its record" in each for each in findings(out)), findings(out)
    put(out, [record.model_copy(update={"run": record.run + 2, "digest": "0" * 64})])
    assert "the commit log is not the one the manifest was written for" in findings(out)


def test_quarantined_bytes_that_are_not_the_source_are_found(out: Path) -> None:
    forge(out, column("image", lambda _: {"bytes": b"other", "path": None}), "quarantine")
    assert any("what is quarantined differs" in finding for finding in findings(out)), findings(out)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda m: m["branches"]["flipped"].update(accepted=15), "branch flipped: the counts"),
        (lambda m: m["branches"].pop("flipped"), "branch flipped: the counts"),
        (lambda m: m.update(watermark=None), "the manifest's watermark is none"),
        (lambda m: m["recipe"].update(watermark="none"), "its recipe asks for none"),
        (lambda m: (m["recipe"].update(watermark="none"), m.update(watermark=None)), "a mark is recorded"),
        (lambda m: m["watermark"].update(psnr_db=40.0), "the manifest's watermark is"),
        (lambda m: m.update(plan_digest="0" * 64), "plan_digest"),
        (lambda m: m["shards"][0].update(rows=9), "do not cover the 9 rows"),
        (lambda m: m["shards"].clear(), "does not list it"),
        (lambda m: m["chains"][1]["steps"][0].update(version=7), "its steps"),
        (lambda m: m["chains"][1]["steps"][0].update(operator="classical"), "not of the operators"),
        (lambda m: m["chains"].pop(), "chains are of ['original']"),
        (lambda m: m["chains"][1].pop("steps"), "cannot be read"),
        (lambda m: m["chains"][1].update(gates=[{}]), "cannot be read"),
        (lambda m: m["commits"].update(sha256="0" * 64), "the commit log is not the one"),
    ],
)
def test_a_forged_manifest_is_found(out: Path, change: Callable[[dict[str, Any]], Any], word: str) -> None:
    edit(out, change)
    assert any(word in finding for finding in findings(out)), findings(out)


def test_other_classes_in_the_manifest_are_found(tmp_path: Path) -> None:
    write_input(tmp_path / "data", shards=1, rows=6)
    out = run_marked(write_recipe(tmp_path))
    edit(out, lambda manifest: manifest["classes"].reverse())
    found = findings(out)
    assert sum("classes are not those" in finding for finding in found) == 2, found


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(watermark={}),
        lambda m: m["watermark"].update(psnr_db="loud"),
        lambda m: m.update(recipe={}),
        lambda m: m.update(recipe={"version": 1, "seed": "x"}),
        lambda m: m.update(chains=[{}]),
    ],
)
def test_a_manifest_that_cannot_be_read_is_one_line(out: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    edit(out, change)
    with pytest.raises(InputError, match=r"manifest\.json"):
        findings(out)


def test_a_manifest_that_is_no_file_is_not_opened(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (out / "manifest.json").unlink()
    os.mkfifo(out / "manifest.json")  # to open it would take for ever
    assert main(["report", str(out)]) == 2
    assert f"{out}/manifest.json: a pipe, a socket or a device, not a file" in capsys.readouterr().err


def flipped(manifest: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next(chain for chain in manifest["chains"] if chain["name"] == "flipped")
    return found


@pytest.mark.parametrize(
    ("where", "change", "said"),
    [
        ("manifest", lambda m: flipped(m).update(name="other"), "the manifest has no branch 'flipped'"),
        ("manifest", lambda m: flipped(m).update(copies=10**12), "its chain in the manifest cannot be read"),
        ("manifest", lambda m: flipped(m)["steps"][0].update(version=10**12), "version 1000000000000"),
        ("manifest", lambda m: flipped(m)["steps"][0]["params"].update(probability=9), "flip.probability = 9"),
        ("manifest", lambda m: m["shards"][0].update(path="x"), "the manifest does not list its shard"),
        ("manifest", lambda m: m["input"].update(columns="x"), "record of the input's columns cannot be read"),
        ("manifest", lambda m: m["input"].update(label="x"), "record of the input names no column 'x'"),
        ("record", {"first": 10**12}, "its record names rows that"),
        ("record", {"first": -1}, "cannot be read"),
        ("record", {"rows": 10**12}, "cannot be read"),
        ("record", {"rows": -1}, "cannot be read"),
        ("record", {"accepted": None}, "cannot be read"),
        ("record", {"sha256": None}, "cannot be read"),
        ("record", {"path": "/dev/zero"}, "cannot be read"),
        ("record", {"path": "data/../../x"}, "cannot be read"),
    ],
)
def test_a_forged_record_misleads_no_replay(
    out: Path, where: str, change: Any, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    unit = unit_name(out)
    sample = pq.read_table(next((out / "data").glob("flipped-*.parquet")))["sample_id"][0].as_py()
    key = out.parent / "key"
    key.write_bytes(KEY)
    if where == "manifest":
        edit(out, change)
    elif "path" in change or "sha256" in change:
        files = records_in(out)[unit].files
        update(out, unit, files={**files, "data": files["data"].model_copy(update=change)})
    else:
        update(out, unit, **change)
    assert main(["replay", str(out), "--sample-id", sample, "--key-file", str(key)]) == 2
    assert said in capsys.readouterr().err
    assert main(["verify", str(out), "--key-file", str(key)]) == 1


def test_a_data_file_that_is_not_parquet_is_a_finding(out: Path) -> None:
    change_file(out, unit_name(out), "data", b"junk")
    mend(out)
    assert any("not a Parquet file" in finding for finding in findings(out))
    assert main(["verify", str(out)]) == 1


def a_log_of_another_schema(out: Path, path: Path) -> None:
    pq.write_table(pa.table({"unit": ["x"]}), path)


def junk(out: Path, path: Path) -> None:
    path.write_bytes(b"junk")


@pytest.mark.parametrize("write", [junk, a_log_of_another_schema])
def test_a_segment_that_cannot_be_read_is_named(
    out: Path, capsys: pytest.CaptureFixture[str], write: Callable[[Path, Path], None]
) -> None:
    write(out, out / "_commits/x.parquet")
    with pytest.raises(InputError, match=r"_commits/x\.parquet.*remove it"):
        CommitLog(open_store(str(out)))
    assert any("_commits/x.parquet" in finding for finding in findings(out))
    assert main(["report", str(out)]) == 2
    assert main(["replay", str(out), "--sample-id", "0" * 32]) == 2
    said = "_commits/x.parquet: this segment of the commit log cannot be read"
    assert [said in line for line in capsys.readouterr().err.splitlines()] == [True, True]
