"""Exit codes of runs that end for a reason outside the recipe: signals, closed pipes, full disks, faults of our own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fixtures.data_sets import FLIP, write_input, write_recipe

GOES_ON = "the same command goes on where this one ended"


@pytest.mark.parametrize(
    ("signals", "status", "line"),
    [
        ([signal.SIGTERM, signal.SIGTERM], 143, "stopped by SIGTERM"),
        ([signal.SIGHUP], 129, "stopped by SIGHUP"),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else "",
)
def test_a_signal_is_one_line_and_its_own_code(
    tmp_path: Path, signals: list[signal.Signals], status: int, line: str
) -> None:
    write_input(tmp_path / "data", shards=2, rows=400)
    recipe = write_recipe(tmp_path, [{**FLIP, "copies": 20}], output={"rows_per_unit": 2})
    command = [sys.executable, "-m", "jobs", "run", str(recipe), "--executor", "inline"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not list((tmp_path / "out/data").glob("*.parquet")):
        assert process.poll() is None
        time.sleep(0.005)
    for number in signals:
        process.send_signal(number)
        time.sleep(0.05)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == status, errors
    assert errors.splitlines()[-1] == f"palimpsest: {line}; {GOES_ON}"
    assert "Traceback" not in errors
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["complete"] is False
    assert manifest["counts"]["accepted"] >= 40


@pytest.mark.parametrize("flags", [[], ["--log-json"]], ids=["text", "json"])
def test_a_second_signal_while_the_process_ends_changes_nothing(tmp_path: Path, flags: list[str]) -> None:
    write_input(tmp_path / "data", shards=2, rows=400)
    recipe = write_recipe(tmp_path, [{**FLIP, "copies": 20}], output={"rows_per_unit": 2})
    command = [sys.executable, "-m", "jobs", "run", str(recipe), "--executor", "inline", *flags]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not list((tmp_path / "out/data").glob("*.parquet")):
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    with process.stderr as stderr:
        last = next(line for line in stderr if GOES_ON in line)
        while process.poll() is None:  # until the interpreter is gone
            process.send_signal(signal.SIGINT)
            time.sleep(0.001)
        assert stderr.read() == ""
    said = json.loads(last)["message"] if flags else last.removeprefix("palimpsest: ").strip()
    assert (process.returncode, said) == (130, f"stopped; {GOES_ON}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_modules_load_is_one_line_and_its_own_code(number: signal.Signals) -> None:
    script = (
        "import os, runpy, sys\n"
        "class Finder:\n"
        "    def find_spec(name, path=None, target=None):\n"
        f"        if name == 'jobs.cli': os.kill(os.getpid(), {number.value})\n"
        "sys.meta_path.insert(0, Finder)\n"
        "runpy.run_module('jobs', run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (128 + number, f"palimpsest: stopped by {number.name} before it began\n")


def test_what_was_to_be_ignored_stays_ignored(tmp_path: Path) -> None:
    write_input(tmp_path / "data", shards=1, rows=40)
    recipe = write_recipe(tmp_path, [{**FLIP, "copies": 10}], output={"rows_per_unit": 2})
    command = [sys.executable, "-m", "jobs", "run", str(recipe), "--executor", "inline"]
    process = subprocess.Popen(["nohup", *command], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not list((tmp_path / "out/data").glob("*.parquet")):
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGHUP)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors


def test_a_reader_that_has_seen_enough_hears_nothing() -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "jobs", "operators"], stdout=write, stderr=subprocess.PIPE, text=True, check=False
        )
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "jobs", "operators"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("palimpsest: this machine: OSError: No space left on device; free some space there")


def test_a_fault_of_ours_is_one_line_that_can_be_reported() -> None:
    script = (
        "import sys, jobs.commands.operators\n"
        "from jobs.cli import main\n"
        "jobs.commands.operators._first_line = lambda part: {}['no such\\nkey']\n"
        "sys.exit(main(['operators']))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("palimpsest: internal error: KeyError: 'no such\\nkey' (<string>:3)")


@pytest.mark.parametrize(("end", "said"), [("os._exit(1)", "palimpsest: Ray is 'lost'\n"), ("pass", "")])
def test_an_end_without_a_word_gets_one(end: str, said: str) -> None:
    script = (
        "import os\n"
        "from pipeline.monitoring.stopping import last_words\n"
        f"with last_words(\"Ray is 'lost'\"):\n    {end}\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.read() == said  # to its end, when the shell that says it is gone, too
    assert process.returncode == int(bool(said))
