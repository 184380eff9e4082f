"""`palimpsest new-operator` writes a package that passes its own test, ruff and mypy."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.cli import main

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("Acme", "'Acme': a name is lower case"),
        ("two words", "a name is lower case"),
        ("../up", "a name is lower case"),
        ("class", "a name is lower case"),
        ("flip", "'flip' is a built-in operator, which would always win; choose another name"),
        ("blank", "'blank' is a built-in gate"),
        ("json", "'json': a module of this name is there already"),
        ("there", "there is there already; choose another folder"),
    ],
)
def test_a_name_that_cannot_be_is_refused(
    name: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    assert main(["new-operator", name]) == 2
    error = capsys.readouterr().err
    assert line in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("new") / "my_op"
    assert main(["new-operator", "my_op", "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def passes(package: Path) -> Callable[..., None]:
    def run(*command: str) -> None:
        environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(package)}
        done = subprocess.run(command, cwd=package, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    return run


def test_what_is_written_passes_ruff(passes: Callable[..., None]) -> None:
    ruff = shutil.which("ruff") or str(Path(sys.executable).parent / "ruff")
    passes(ruff, "check", "--no-cache", ".")
    passes(ruff, "format", "--no-cache", "--check", ".")


@pytest.mark.slow
def test_what_is_written_passes_its_own_test(passes: Callable[..., None]) -> None:
    passes(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")


@pytest.mark.slow
def test_what_is_written_passes_mypy(package: Path) -> None:
    command = [sys.executable, "-m", "mypy", str(package / "src"), *map(str, (package / "tests").glob("*.py"))]
    environment = {"MYPYPATH": str(package / "src"), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)  # strict, and cached
    assert done.returncode == 0, done.stdout + done.stderr
