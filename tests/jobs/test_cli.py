"""The command line as a person meets it: exit codes, one clear line, clean stdout.

Commands run in this process, what they write to its descriptors 1 and 2 is read; where the process is the point, or
modules of the command line load, they run in one of their own.
"""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from jobs import cli, commands
from tests.fixtures.data_sets import FLIP, rows_of, write_input, write_recipe


def palimpsest(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jobs", *arguments], capture_output=True, text=True, check=False, cwd=cwd
    )


@dataclass(frozen=True)
class Said:
    """An exit status, and all that was written."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Run one command in this process."""

    def run(*arguments: str) -> Said:
        status = cli.main(arguments)
        return Said(status, *capfd.readouterr())

    return run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    write_input(folder / "data", rows=8)
    done = palimpsest("run", str(write_recipe(folder)), "--executor", "inline")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "accepted" in done.stderr
    return folder


def test_run_leaves_everything_the_contract_names(made: Path) -> None:
    out = made / "out"
    for name in ("manifest.json", "README.md", "croissant.json", "report/index.html"):
        assert (out / name).is_file()
    assert not list((out / "_tmp").glob("*")) if (out / "_tmp").exists() else True
    assert len(rows_of(out)) == 32


def test_verify_and_json(made: Path, call: Callable[..., Said]) -> None:
    done = call("verify", str(made / "out"), "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["ok"] is True
    text = call("verify", str(made / "out"))
    assert "verified" in text.stdout
    assert "watermarks were not checked" in text.stdout


def test_replay(made: Path, call: Callable[..., Said]) -> None:
    sample = rows_of(made / "out")[3]["sample_id"]
    done = call("replay", str(made / "out"), "--sample-id", sample)
    assert done.returncode == 0, done.stderr
    assert "equal" in done.stdout


def test_dry_run_writes_nothing(tmp_path: Path, call: Callable[..., Said]) -> None:
    write_input(tmp_path / "data", shards=1, rows=4)
    done = call("run", str(write_recipe(tmp_path)), "--dry-run")
    assert done.returncode == 0
    assert "units" in done.stdout
    assert not (tmp_path / "out").exists()


def test_operators_lists_parameters(call: Callable[..., Said]) -> None:
    listed = call("operators").stdout
    for name in ("flip", "classical", "adain_style"):
        assert name in listed
    assert "probability: number >= 0 <= 1 = 0.5" in call("operators", "flip").stdout


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["run", "nothing.yaml"], "no such file"),
        (["run", "RECIPE", "--set", "output.enconding=png"], "'encoding'"),
        (["run", "RECIPE", "--set", "watermark={scheme: stdm}"], "watermark"),
        (["run", "RECIPE", "--input", "nowhere"], "nowhere"),
        (["plan", "RECIPE", "--set", "seed=x"], "seed"),
        (["verify", "nowhere"], "manifest.json"),
        (["replay", "OUT", "--sample-id", "abc"], "abc"),
        (["operators", "flop"], "'flip'"),
        (["train", "adian", "x.yaml"], "adain"),
        (["run", "RECIPE", "--limit", "0"], "0"),
        (["run", "RECIPE", "--limit", "\x1b[2J\n" * 1_000], "\\x1b[2J"),
        (["dance"], "dance"),
        ([], "COMMAND"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_2(
    made: Path, arguments: list[str], word: str, call: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(made)
    names = {"RECIPE": str(made / "recipe.yaml"), "OUT": str(made / "out")}
    check_wrong(call(*[names.get(argument, argument) for argument in arguments]), word)


@pytest.mark.parametrize(("arguments", "word"), [(["run", "nothing.yaml"], "no such file"), ([], "COMMAND")])
def test_the_process_ends_with_that_line_and_status(tmp_path: Path, arguments: list[str], word: str) -> None:
    check_wrong(palimpsest(*arguments, cwd=tmp_path), word)


def check_wrong(done: Said | subprocess.CompletedProcess[str], word: str) -> None:
    assert done.returncode == 2, done.stderr
    assert word in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("palimpsest: ")


def test_a_failed_unit_is_exit_1(tmp_path: Path, call: Callable[..., Said]) -> None:
    write_input(tmp_path / "data", shards=1, rows=8)
    recipe = write_recipe(tmp_path)
    shard = tmp_path / "data/train-00000.parquet"
    data = bytearray(shard.read_bytes())
    data[200:3000] = bytes(2800)  # the footer is whole, the pages are not
    shard.write_bytes(data)
    done = call("run", str(recipe), "--executor", "inline", "--set", "branches.flipped.where=null")
    assert done.returncode == 1, done.stderr
    assert "_failed" in done.stderr
    assert list((tmp_path / "out/_failed").glob("*.json"))


def test_ctrl_c_says_how_to_go_on_and_the_same_command_does(tmp_path: Path, call: Callable[..., Said]) -> None:
    write_input(tmp_path / "data", shards=2, rows=400)  # seconds of work, also where files are in memory
    branch = {**FLIP, "copies": 20}
    recipe = write_recipe(tmp_path, [branch], output={"rows_per_unit": 2})
    command = [sys.executable, "-m", "jobs", "run", str(recipe), "--executor", "inline"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not list((tmp_path / "out/data").glob("*.parquet")):
        assert process.poll() is None
        time.sleep(0.005)
    for _ in range(2):  # people press it twice
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "goes on where this one ended" in errors
    assert "Traceback" not in errors
    done = call(*command[3:])
    assert done.returncode == 0, done.stderr
    assert "are done already" in done.stderr
    assert call("verify", str(tmp_path / "out")).returncode == 0


def test_every_command_is_a_module_of_its_own() -> None:
    files = {path.stem for path in Path(commands.__file__).parent.glob("*.py")} - {"__init__"}
    assert files == {name.replace("-", "_") for name in cli.COMMANDS}
    for module in cli.COMMANDS.values():
        assert module.HELP and callable(module.add_arguments) and callable(module.call)
