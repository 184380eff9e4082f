"""`verify` on Ray says what it says in one process."""

import json
import shutil
from pathlib import Path

import pytest

from jobs.cli import main
from pipeline.audit.verification import Verification
from pipeline.audit.verify import Scope, verify_dataset
from pipeline.cluster.check_pool import verify_on_ray
from pipeline.errors import InputError
from pipeline.shards.output.store import open_store
from tests.audit.test_trace import KEY, MARKED, run_marked
from tests.fixtures.commit_logs import change_rows, records_in
from tests.fixtures.data_sets import FLIP, write_recipe
from tests.fixtures.shard_files import photos, write_shard

pytestmark = pytest.mark.usefixtures("ray_local")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checked")
    for index in range(4):
        write_shard(folder / f"data/{index}.parquet", photos(6, 64, 64, seed=index), labels=[0] * 6)
    return run_marked(write_recipe(folder, [FLIP], **MARKED, output={"keep_originals": True}))


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "out"))


def both(out: Path, monkeypatch: pytest.MonkeyPatch, scope: Scope | None = None) -> Verification:
    """Verify in this process and on Ray, a task for every range; the two must be equal."""
    monkeypatch.setattr("pipeline.audit.check_tasks.TASK_IMAGES", 1)
    store = open_store(str(out))
    here = verify_dataset(store, KEY, scope)
    assert verify_on_ray(store, KEY, scope or Scope(), "local") == here
    return here


@pytest.mark.slow
def test_what_was_made_verifies_on_ray_marks_and_seal_included(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = both(made, monkeypatch)
    assert (found.findings, found.images, found.watermarks, found.source_links, found.sealed) == ([], 72, 48, 24, True)


def test_the_findings_are_the_same_and_in_the_same_order(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, unit in enumerate(sorted(records_in(out))):
        if number % 2:
            change_rows(out, unit, "data", lambda table: table.slice(1))
    for path in sorted((out / "data").iterdir())[:3]:
        path.write_bytes(path.read_bytes()[:-1])
    sorted((out / "data").iterdir())[4].unlink()
    assert len(both(out, monkeypatch).findings) > 15


def test_a_sample_is_drawn_alike(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = both(made, monkeypatch, Scope(0.4, seed=3))
    assert found.ok and 0 < found.images < 72


@pytest.mark.slow
def test_the_command_verifies_on_ray(made: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(KEY)
    assert main(["verify", str(made), "--executor", "ray", "--key-file", str(tmp_path / "key"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["ok"], told["images"], told["watermarks"], told["sealed"]) == (True, 72, 48, True)


def test_another_key_is_refused_before_anything_is_sent(made: Path) -> None:
    with pytest.raises(InputError, match="marked with key"):
        verify_on_ray(open_store(str(made)), b"another key of sixteen bytes", Scope(), "local")
