"""Every hostile recipe ends `plan` with exit 2 and one short line of plain characters, in a second."""

import time

import pytest

from jobs.cli import main
from tests.fixtures.shard_files import photos, write_shard
from tests.hostile.opened import opened, outside
from tests.hostile.recipes import PLAIN, hostile

RECIPES = dict(hostile())
MAX_SECONDS = 1.0
"""Of the processor, so that a busy machine fails no test."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    write_shard(folder / "in" / "a.parquet", photos(3, 8, 8), [0, 1, 2])
    (folder / "recipe.yaml").write_text(PLAIN)
    assert main(["plan", str(folder / "recipe.yaml")]) == 0  # also imports what a plan needs
    return folder


def test_there_are_a_hundred():
    assert len(RECIPES) >= 100


@pytest.mark.parametrize("name", RECIPES)
def test_a_hostile_recipe_is_one_line(folder, name, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    text = RECIPES[name]
    (folder / "recipe.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    began = time.process_time()
    with opened() as paths:
        status = main(["plan", "recipe.yaml"])
    took = time.process_time() - began
    said = capsys.readouterr()
    assert status == 2, said.out
    assert said.out == ""
    assert said.err.startswith("palimpsest: ") and said.err.endswith("\n")
    assert said.err.rstrip("\n").isprintable()
    assert len(said.err) < 600
    assert "Traceback" not in said.err
    assert took < MAX_SECONDS
    assert outside(paths, [folder]) == []
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + PLAIN,
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("{uri: out}", "{uri: out, keep_originals: yes}"),
        "x: &x {uri: out}\n".replace("x: ", "output: ") + PLAIN.replace("output: {uri: out}\n", ""),
        PLAIN.replace("{uri: out}", "{<<: {encoding: webp}, uri: out}"),
        PLAIN.replace("{flip: {}}", "&f {flip: {}}, *f, *f"),
        PLAIN.replace("name: b", 'name: b, where: "label in (0, 1) and label ** 2 < 9"'),
    ],
)
def test_usual_recipes_are_still_taken(folder, text, capsys):
    (folder / "recipe.yaml").write_text(text, newline="")
    assert main(["plan", str(folder / "recipe.yaml")]) == 0, capsys.readouterr().err


@pytest.mark.parametrize(
    "override",
    [
        "seed=" + "[" * 50_000,
        "seed=&a [*a]",
        ".".join("a" * 9_000) + "=1",
        "seed=" + "9" * 9_000,
        "input.drop=[" + "1, " * 40_000 + "]",
        "\x1b[2J=1",
        "seed=\x1b[2J",
        "branches.0.operators.0.flip" + ".a" * 31 + "=1",
        "input={uri: in, uri: in}",
    ],
    ids=lambda text: text.encode("unicode_escape").decode()[:20],
)
def test_a_hostile_override_is_one_line(folder, override, capsys):
    (folder / "recipe.yaml").write_text(PLAIN)
    began = time.process_time()
    assert main(["plan", str(folder / "recipe.yaml"), "--set", override]) == 2
    assert time.process_time() - began < MAX_SECONDS
    said = capsys.readouterr().err
    assert said.rstrip("\n").isprintable() and len(said) < 600


@pytest.mark.parametrize(
    "name", ["aliases multiplied", "deep lists", "not UTF-8", "a list at the top", "a key with \\e[31m"]
)
def test_a_trainer_takes_no_hostile_configuration(folder, name, capsys):
    text = RECIPES[name]
    (folder / "config.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert main(["train", "gan", str(folder / "config.yaml")]) == 2
    said = capsys.readouterr().err
    assert said.rstrip("\n").isprintable() and len(said) < 600
