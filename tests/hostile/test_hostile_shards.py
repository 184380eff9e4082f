"""Every hostile shard is made into a data set or refused: documented exit codes, plain lines, nothing else opened."""

import os
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from jobs.cli import main
from tests.fixtures.shard_files import photos, write_shard
from tests.hostile.opened import opened, outside
from tests.hostile.recipes import PLAIN
from tests.hostile.shards import ODD_TEXTS, classes, hostile, table

SHARDS = dict(hostile())
MAX_SECONDS = 1.0
"""Of the processor."""


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    """Import what a run needs, so that no shard pays for it."""
    folder = tmp_path_factory.mktemp("warm")
    write_shard(folder / "in" / "a.parquet", photos(3, 8, 8), [0, 1, 2])
    (folder / "recipe.yaml").write_text(PLAIN)
    assert main(["run", str(folder / "recipe.yaml"), "--executor", "inline"]) == 0


def test_there_are_a_hundred():
    assert len(SHARDS) >= 100


def is_plain(line):
    return line.replace("\u200c", "").replace("\u200d", "").isprintable()  # letters and emoji are joined by these


def assert_plain(said):
    for stream in (said.out, said.err):
        assert all(is_plain(line) for line in stream.split("\n")), repr(stream)
        assert "Traceback" not in stream


@pytest.mark.parametrize("name", SHARDS)
def test_a_hostile_shard_is_made_or_refused(warm, name, tmp_path, capsys):
    key = tmp_path / "key"
    key.write_text("a-key-that-no-shard-may-read")
    (tmp_path / "in").mkdir()
    pq.write_table(SHARDS[name], tmp_path / "in" / "a.parquet")
    (tmp_path / "recipe.yaml").write_text(PLAIN)
    began = time.process_time()
    with opened() as paths:
        status = main(["run", str(tmp_path / "recipe.yaml"), "--executor", "inline"])
    took = time.process_time() - began
    said = capsys.readouterr()
    assert status in (0, 1, 2), said.err
    assert_plain(said)
    if status == 2:
        assert said.err.count("\n") == 1 and len(said.err) < 600
    assert took < MAX_SECONDS
    assert outside(paths, [tmp_path / "in", tmp_path / "out", tmp_path / "recipe.yaml"]) == []
    for file in (tmp_path / "out").rglob("*"):
        assert file.is_dir() or b"a-key-that-no-shard-may-read" not in file.read_bytes(), file


@pytest.mark.parametrize("text", ODD_TEXTS.values(), ids=ODD_TEXTS)
def test_odd_names_change_no_card_and_no_page(warm, text, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    pq.write_table(classes([text or "a", "b", "c"]), tmp_path / "in" / "a.parquet")
    (tmp_path / "recipe.yaml").write_text(PLAIN)
    if main(["run", str(tmp_path / "recipe.yaml"), "--executor", "inline"]) == 2:
        return
    card = (tmp_path / "out" / "README.md").read_text()
    _, front, body = card.split("---\n", 2)
    assert set(yaml.safe_load(front)) == {"pretty_name", "task_categories", "tags", "size_categories", "configs"}
    assert not [line for line in body.splitlines() if line.startswith(("---", "# Other", "license"))]
    assert "<script" not in card and "](" not in card.replace("\\](", "").replace("\\]\\(", "")
    page = (tmp_path / "out" / "report" / "index.html").read_text()
    assert "<script" not in page and "<img src=x" not in page
    assert all(is_plain(line) for line in page.split("\n"))
    capsys.readouterr()
    for command in (["verify"], ["report"]):
        assert main([*command, str(tmp_path / "out")]) == 0
        assert_plain(capsys.readouterr())


@pytest.mark.parametrize(
    "name",
    [b"\x1b[2J.parquet", b"a\nb.parquet", b"-rf.parquet", b"a#row=1.parquet", b"%2e%2e.parquet", b"\xff.parquet",
     b"a'\"`$(b).parquet", b"\xe2\x80\xae.parquet", b"a b.parquet", b"[a-z].parquet", b"{a,b}.parquet", b"~.parquet"],
    ids=repr,
)  # fmt: skip
def test_odd_names_of_shards(warm, name, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    data = pa.BufferOutputStream()
    pq.write_table(table(label=[0, 1, 2]), data)
    with open(os.path.join(os.fsencode(tmp_path / "in"), name), "wb") as file:
        file.write(data.getvalue())
    (tmp_path / "recipe.yaml").write_text(PLAIN)
    for command in (["plan"], ["run", "--executor", "inline"]):
        status = main([command[0], str(tmp_path / "recipe.yaml"), *command[1:]])
        said = capsys.readouterr()
        assert status in (0, 2), said.err
        assert_plain(said)
        if status == 2:
            assert said.err.count("\n") == 1
            return
    assert main(["verify", str(tmp_path / "out")]) == 0
    assert_plain(capsys.readouterr())
