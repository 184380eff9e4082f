"""Ray's unpacked copy of a submitted folder: outputs and keys are refused there, inputs keep their names."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.cli import main
from pipeline.model_files.references import resolve_model
from pipeline.working_dir import persistent_path, require_persistent, working_dir_root
from tests.fixtures.data_sets import contents, rows_of, write_input, write_recipe
from tests.fixtures.reference_images import style

CLASSIC = [{"name": "flipped", "copies": 1, "operators": [{"flip": {}}]}]


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder as Ray unpacks it, with a recipe and shards, as the working directory."""
    root = tmp_path / "session_1/runtime_resources/working_dir_files/_ray_pkg_0123456789abcdef"
    write_input(root / "data", shards=1, rows=6)
    write_recipe(root, CLASSIC)
    monkeypatch.chdir(root)
    yield root


def test_a_copy_is_known_by_its_place(copy: Path) -> None:
    assert working_dir_root("recipe.yaml") == copy
    assert working_dir_root(copy / "data/a/b") == copy
    assert working_dir_root(copy.parent) is None
    assert working_dir_root("/data") is None
    assert persistent_path(str(copy / "data/a.parquet")) == "data/a.parquet"
    assert persistent_path(str(copy)) == "."
    assert persistent_path("/data/a.parquet") == "/data/a.parquet"
    assert persistent_path("s3://bucket/a.parquet") == "s3://bucket/a.parquet"
    (copy / "style.safetensors").write_bytes(b"a model")
    assert resolve_model("style.safetensors", str(copy)).uri == "style.safetensors"
    require_persistent("/shared/out", "output.uri", "")
    require_persistent("s3://bucket/out", "output.uri", "")


def test_memory_of_one_process_is_no_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_input(tmp_path / "data")
    recipe = write_recipe(tmp_path)
    for command in (["plan", str(recipe)], ["run", str(recipe), "--executor", "inline"]):
        assert main([*command, "--output", "memory://out"]) == 2
        told = "output.uri 'memory://out' is memory of one process and ends with it"
        assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "what"),
    [
        (["run", "recipe.yaml", "--executor", "inline"], "output.uri 'out'"),
        (["run", "recipe.yaml", "--address", "auto"], "output.uri 'out'"),
        (["run", "recipe.yaml", "--executor", "inline", "--output", "./elsewhere"], "output.uri 'elsewhere'"),
        (["plan", "recipe.yaml"], "output.uri 'out'"),
        (["demo", "--executor", "inline"], "--out 'demo-out'"),
        (["report", "out"], "DATASET 'out'"),
        (["train", "gan", "gan.yaml"], "out 'models'"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_would_be_deleted_is_refused(
    copy: Path, capsys: pytest.CaptureFixture[str], command: list[str], what: str
) -> None:
    (copy / "gan.yaml").write_text(
        "out: models\ndata: {uri: data/*.parquet}\ntraining: {seconds: 1, steps: 1, learning_rate: 0.001}\n"
    )
    before = sorted(copy.rglob("*"))
    assert main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"palimpsest: {what} lies in Ray's unpacked copy of the submitted working directory")
    assert "give an absolute path in a folder that all nodes share, or an object store" in line
    assert sorted(copy.rglob("*")) == before


def test_the_next_submission_goes_on(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (copy / "styles").mkdir()
    (copy / "styles/0.png").write_bytes(style(0).data)
    styled = {"name": "styled", "copies": 1, "operators": [{"color_transfer": {"styles": "styles"}}]}
    write_recipe(copy, [*CLASSIC, styled])
    command = ["run", "recipe.yaml", "--executor", "inline", "--output", str(tmp_path / "out")]
    assert main(command) == 0
    partners = [each for row in rows_of(tmp_path / "out") for each in row["partners"]]
    assert {each["source_uri"] for each in partners} == {"styles/0.png"}
    made = contents(tmp_path / "out")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out/data").iterdir()}
    assert {row["source_uri"] for row in rows_of(tmp_path / "out")} == {"data/train-00000.parquet"}

    again = copy.with_name("_ray_pkg_fedcba9876543210")  # a file changed, so the package has another name
    shutil.copytree(copy, again)
    shutil.rmtree(copy)
    (again / "notes.txt").write_text("2")
    monkeypatch.chdir(again)
    assert main(command) == 0
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert main([*command[:-1], str(tmp_path / "whole")]) == 0
    assert contents(tmp_path / "whole") == made  # nothing in a row names the package

    own = tmp_path / "own"  # the folder that was submitted: from there the data set can be checked
    shutil.copytree(again, own)
    shutil.rmtree(again)
    monkeypatch.chdir(own)
    assert main(["verify", str(tmp_path / "out")]) == 0
    assert main(["replay", str(tmp_path / "out"), "--sample-id", rows_of(tmp_path / "out")[0]["sample_id"]]) == 0


def test_a_packed_key_is_refused_and_removed(copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy / "my.key").write_text("not a real key at all")
    (copy / "keys").mkdir()
    (copy / "keys/OTHER.KEY").write_text("not a real key either")
    command = ["run", "recipe.yaml", "--executor", "inline", "--output", str(tmp_path / "out")]
    for _ in range(2):  # the package is still the one that held it
        assert main(command) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "packed a key" in line
        assert "keys/OTHER.KEY, my.key" in line
        assert ".rayignore" in line
        assert not list(copy.rglob("*.[kK][eE][yY]"))
    assert not (tmp_path / "out").exists()


def test_a_packed_key_of_any_name_is_refused_where_it_is_named(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copy / "secret.txt").write_text("not a real key at all")
    (tmp_path / "mine.txt").write_text("not a real key at all")
    command = ["verify", str(tmp_path / "out"), "--key-file"]
    assert main([*command, str(tmp_path / "mine.txt")]) == 2  # not packed
    assert "no manifest.json here" in capsys.readouterr().err
    assert main([*command, "secret.txt"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "packed a key and sent it to the cluster (secret.txt)" in line
    assert "put the line secret.txt into its .rayignore" in line
    assert not (copy / "secret.txt").exists()


def test_a_key_in_the_jobs_environment_is_refused(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = "a key for this test alone"
    environment = {"runtime_env": {"env_vars": {"PALIMPSEST_KEY": secret}}}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(environment))
    assert main(["plan", "recipe.yaml"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "PALIMPSEST_KEY is in the job's runtime_env.env_vars" in line
    assert secret not in line


def test_elsewhere_keys_are_nobodys_business(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_input(tmp_path / "data", shards=1, rows=4)
    write_recipe(tmp_path)
    (tmp_path / "my.key").write_text("not a real key at all")
    monkeypatch.chdir(tmp_path)
    assert main(["run", "recipe.yaml", "--executor", "inline"]) == 0
    assert (tmp_path / "my.key").is_file()
