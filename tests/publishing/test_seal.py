"""The seal: with the key `verify` finds every change, also one whose checksums were changed with it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.cli import main
from pipeline.audit.replay import replay_sample
from pipeline.audit.trace import trace_image
from pipeline.audit.verify import verify_dataset
from pipeline.errors import InputError
from pipeline.publishing.seal import SEAL, seal_dataset, seal_file, sealed_log
from pipeline.shards.images.codecs import decode
from pipeline.shards.output.commit_log import CommitLog
from pipeline.shards.output.store import open_store
from pipeline.watermark.payload import payload, to_text
from pipeline.watermark_key import key_id
from tests.audit.test_forgery import column, edit, forge
from tests.audit.test_trace import KEY, MARKED, run_marked
from tests.fixtures.commit_logs import put, records_in, unit_at, update
from tests.fixtures.data_sets import CLASSES, FLIP, findings, rows_of, write_recipe
from tests.fixtures.reference_images import style
from tests.fixtures.shard_files import photos, write_shard

OTHER = b"another key of sixteen bytes"
STYLED = {
    "name": "flipped",
    "copies": 2,
    "operators": [{"color_transfer": {"styles": "styles", "alpha_range": [0.2, 1]}}],
}
Change = Callable[[Path], object]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A marked and sealed data set, styled, with a column of the user's own."""
    folder = tmp_path_factory.mktemp("sealed")
    (folder / "styles").mkdir()
    for index in range(3):
        (folder / f"styles/{index}.png").write_bytes(style(index).data)
    write_shard(
        folder / "data/a.parquet", photos(6, 96, 128), labels=[0, 1, 2] * 2, ids=list("abcdef"), class_names=CLASSES
    )
    out = run_marked(write_recipe(folder, [STYLED], **MARKED))
    assert main(["report", str(out)]) == 0
    seal_file(open_store(str(out)), "report/index.html", KEY)
    return folder


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "out", tmp_path / "out"))


def verified(out: Path, key: bytes | None = KEY) -> list[str]:
    return findings(out, key)


def test_what_was_made_and_sealed_verifies(out: Path) -> None:
    found = verify_dataset(open_store(str(out)), KEY)
    assert (found.findings, found.notes, found.sealed) == ([], [], True)
    without = verify_dataset(open_store(str(out)))
    assert without.ok and not without.sealed
    assert any("the seal was not checked: no key" in note for note in without.notes)
    with pytest.raises(InputError, match="with key"):
        verify_dataset(open_store(str(out)), OTHER)


def drawn(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**step, "params": json.dumps({**json.loads(step["params"]), "alpha": 0.5})} for step in steps]


def partner(out: Path) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    """Swap the style of every row for another one that is among the artifacts."""
    artifacts = json.loads((out / "manifest.json").read_text())["artifacts"]
    names = [*artifacts]

    def swapped(partners: list[dict[str, Any]]) -> list[dict[str, Any]]:
        others = [names[(names.index(each["sha256"]) + 1) % len(names)] for each in partners]
        pairs = zip(partners, others, strict=True)
        return [{**each, "sha256": sha256, "source_uri": artifacts[sha256]} for each, sha256 in pairs]

    return swapped


def unmarked(out: Path) -> None:
    """Claim `watermark: none` everywhere, and take the marks out of the rows."""
    forge(out, column("watermarks", lambda _: []))
    edit(out, lambda m: (m["recipe"].update(watermark="none"), m.update(watermark=None)))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda out: forge(out, column("steps", drawn)), "_commits/"),
        (lambda out: forge(out, column("partners", partner(out))), "_commits/"),
        (lambda out: forge(out, column("id", lambda _: "x")), "_commits/"),
        (lambda out: forge(out, lambda table: table.take(pa.array(range(len(table) - 1, -1, -1)))), "_commits/"),
        (lambda out: edit(out, lambda m: m["recipe"].update(seed=8)), "manifest.json"),
        (lambda out: edit(out, lambda m: m["versions"].update(torch="9.9")), "manifest.json"),
        (lambda out: edit(out, lambda m: m.update(palimpsest="9.9")), "manifest.json"),
        (unmarked, "manifest.json"),
        *(
            (lambda out, name=name: (out / name).write_text("other"), name)
            for name in ("README.md", "croissant.json", "openlineage.jsonl", "report/index.html")
        ),
        (lambda out: (out / "README.md").unlink(), "README.md"),
        (lambda out: (out / "report/more.html").write_text("more"), "report/more.html"),
        (lambda out: (out / "_artifacts/more.json").write_text("{}"), "_artifacts/more.json"),
        (lambda out: (out / "train.parquet").write_bytes(b"more"), "train.parquet"),
        (lambda out: (out / ".huggingface.yaml").write_text("configs: []"), ".huggingface.yaml"),
        (lambda out: (out / f"{SEAL}.txt").write_text("more"), f"{SEAL}.txt"),
        (lambda out: (out / "_commits/more.txt").write_text("more"), "_commits/more.txt"),
    ],
)
def test_a_change_is_named_though_every_sum_is_mended(out: Path, change: Change, named: str) -> None:
    change(out)
    found = verified(out)
    assert any(finding.startswith(named) and "seal" in finding for finding in found), found


def test_what_carries_a_data_set_is_no_part_of_it(out: Path) -> None:
    for path in (".git/config", ".gitattributes", ".cache/huggingface/x", ".DS_Store"):
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        (out / path).write_text("")
    assert verified(out) == []


def sealing_run(made: Path, out: Path, tmp_path: Path) -> list[str]:
    """Return the command that goes on with a copy of the data set."""
    (tmp_path / "key").write_bytes(KEY)
    run = ["run", str(made / "recipe.yaml"), "--output", str(out), "--executor", "inline"]
    return [*run, "--key-file", str(tmp_path / "key")]


def segment(out: Path) -> str:
    (path,) = (out / "_commits").glob("*.parquet")
    return f"_commits/{path.name}"


def test_a_further_run_seals_nothing_that_was_changed(
    made: Path, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, sealed = sealing_run(made, out, tmp_path), segment(out)
    forge(out, column("id", lambda _: "x"))
    (out / "report/more.html").write_text("more")
    forged = segment(out)
    more = "report/more.html: not sealed, so not of the run; move it out of the data set"
    gone = f"{sealed}: sealed, and the file is missing"
    assert {f"{forged}: not sealed, so not of the run; move it out of the data set", gone, more} <= {*verified(out)}
    assert main(run) == 0
    assert f"{sealed}: sealed, and it is gone" in capsys.readouterr().err
    assert {gone, more} <= {*verified(out)}
    for path in (*(out / "_commits").iterdir(), *(out / "data").iterdir(), out / "report/more.html", out / SEAL):
        path.unlink()
    assert main(run) == 0
    assert verified(out) == []
    assert {row["id"] for row in rows_of(out)} == set("abcdef")


def test_a_record_beside_the_sealed_one_is_not_sealed(
    made: Path, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = sealing_run(made, out, tmp_path)
    record = next(iter(records_in(out).values()))
    added = put(out, [record.model_copy(update={"run": record.run + 9, "exact": False})])
    named = f"{added}: not sealed, so not of the run; move it out of the data set"
    assert named in verified(out)
    assert main(run) == 0
    assert f"{added}: not sealed, and it says otherwise of sealed units" in capsys.readouterr().err
    assert named in verified(out)
    (out / added).unlink()
    assert main(run) == 0
    assert verified(out) == []


def test_a_record_that_changes_is_named_whatever_it_says(out: Path) -> None:
    sealed, unit = segment(out), unit_at(next((out / "data").glob("*.parquet")))
    update(out, unit, seconds=1.0)
    assert {*verified(out)} == {
        f"{sealed}: sealed, and the file is missing",
        f"{sealed}: the manifest lists this segment, and it is not there",
        f"{segment(out)}: not sealed, so not of the run; move it out of the data set",
        f"{segment(out)}: the manifest does not list this segment of the commit log; the next run merges it",
    }


@pytest.mark.parametrize("claimed", ["as it was", "watermark: none"])
def test_a_seal_that_is_removed_or_forged_is_a_finding(out: Path, claimed: str) -> None:
    if claimed != "as it was":
        unmarked(out)
    store = open_store(str(out))
    (out / SEAL).unlink()
    assert any(finding.startswith(f"{SEAL}: there is none") for finding in verified(out))
    notes = verify_dataset(store).notes
    assert any("no seal" in note for note in notes)
    seal_dataset(store, CommitLog(store), OTHER, sealed_log(store, OTHER, ()))
    with pytest.raises(InputError, match=r"sealed with key|marked with key"):
        verify_dataset(store, OTHER if claimed == "as it was" else KEY)
    if claimed == "as it was":
        said = f"{SEAL}: of key {key_id(OTHER)}, and the images are marked with {key_id(KEY)}"
        assert verified(out) == [said]
    seal = json.loads((out / SEAL).read_text())
    (out / SEAL).write_text(json.dumps({**seal, "key_id": key_id(KEY)}))
    assert f"{SEAL}: was not made with this key" in verified(out)
    (out / SEAL).write_text(json.dumps({**seal, "key_id": key_id(KEY), "hmac": "\u00e9"}))
    assert f"{SEAL}: was not made with this key" in verified(out)
    (out / SEAL).write_text("junk")
    assert f"{SEAL}: not a seal that can be read" in verified(out)
    (out / SEAL).unlink()
    (out / SEAL).mkdir()
    assert f"{SEAL}: not a seal that can be read" in verified(out)


def test_a_report_that_is_written_again_is_sealed_with_the_key_alone(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (out / "report/index.html").write_text("old")
    assert main(["report", str(out)]) == 0
    assert verified(out) == []  # the same page as before
    (tmp_path / "key").write_bytes(KEY)
    edit(out, lambda manifest: manifest["recipe"].update(seed=8))
    (out / SEAL).write_text((out / SEAL).read_text().replace("index.html", "index.htm"))
    assert main(["report", str(out)]) == 0
    assert "the seal is of another report" in capsys.readouterr().err
    assert (
        main(["report", str(out), "--key-file", str(tmp_path / "key")]) == 2
    )  # a seal that does not hold is not mended


def as_before(out: Path) -> None:
    """Make a data set what an earlier version made: payloads in clear, no seal, no column digests."""

    def clear(table: pa.Table) -> pa.Table:
        rows = table.to_pylist()
        for row in rows:
            row["watermarks"][0]["payload"] = to_text(payload(KEY, row["sample_id"]))
        return pa.Table.from_pylist(rows, table.schema)

    forge(out, clear)
    (out / SEAL).unlink()
    added = ("columns", "file_version")
    edit(out, lambda manifest: [shard.pop(name) for shard in manifest["shards"] for name in added])


def test_a_data_set_of_an_earlier_version_is_read(out: Path) -> None:
    as_before(out)
    store = open_store(str(out))
    found = verify_dataset(store, KEY)
    assert found.findings == []
    assert any("made by an earlier version" in note for note in found.notes)
    row = rows_of(out)[3]
    assert len(row["watermarks"][0]["payload"]) == 16
    assert replay_sample(store, row["sample_id"], KEY).equal
    traced = trace_image(decode(row["image"]["bytes"], 10**8), store, KEY)
    assert traced.row is not None and traced.row["sample_id"] == row["sample_id"]


def test_no_file_holds_a_payload(out: Path) -> None:
    words = [to_text(payload(KEY, row["sample_id"])) for row in rows_of(out)]
    for path in out.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not any(word.encode() in data for word in words), path
    recorded = [row["watermarks"][0]["payload"] for row in rows_of(out)]
    assert all(word.startswith("hmac-sha256:") and len(word) == 44 for word in recorded)
    assert len(set(recorded)) == len(recorded)


def test_the_command_seals_and_verifies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_shard(tmp_path / "data/a.parquet", photos(4), labels=[0] * 4)
    recipe, key = write_recipe(tmp_path, [FLIP]), tmp_path / "key"
    key.write_bytes(KEY)
    run = ["run", str(recipe), "--executor", "inline", "--key-file", str(key)]
    verify = ["verify", str(tmp_path / "out"), "--key-file", str(key)]
    assert main(run) == 0
    assert main(verify) == 0
    assert "the seal" in capsys.readouterr().out
    (tmp_path / "out/report/index.html").write_text("other")
    assert main(verify) == 1
    assert "report/index.html: not the sealed one" in capsys.readouterr().out
    assert main(run) == 0  # nothing is missing; what differs from the seal is written again
    assert main(verify) == 0
    assert (tmp_path / "out/report/index.html").read_text() != "other"
    path = next((tmp_path / "out/data").glob("*.parquet"))
    table = pq.read_table(path)
    assert table.num_rows == 8
