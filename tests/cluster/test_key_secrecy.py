"""The key of a run on a local Ray: in the environment of the driver, and nowhere else, file, argument or process."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.secrets_found import Processes, environment_of, files_with
from tests.fixtures.data_sets import findings, write_input, write_recipe

ROOT = Path(__file__).resolve().parent.parent.parent
KEY = b"a key that is to be found nowhere, 7f3a9c"


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder with a short path, since a socket's path has at most 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="key-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_the_search_finds_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "plain.log").write_bytes(b"x" * 5_000 + KEY)
    (tmp_path / "hex.log").write_text(KEY.hex())
    (tmp_path / "other.log").write_text("nothing")
    found = files_with(KEY, tmp_path)
    assert sorted(Path(each).name for each in found) == ["hex.log", "plain.log"]
    code = "import sys; sys.stdin.readline()"
    command = [sys.executable, "-c", code, KEY.decode()]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as child:
        seen = Processes(os.getpid())
        seen.look()
        assert [each.split()[0] for each in seen.names_of(KEY)] == [str(child.pid)]


@pytest.mark.slow
def test_the_key_of_a_run_is_in_no_file_argument_or_process(tmp_path: Path, scratch: Path) -> None:
    write_input(tmp_path / "data", shards=1, rows=40)
    recipe = write_recipe(tmp_path, watermark={"scheme": "stdm"}, output={"rows_per_unit": 4})
    places = {name: scratch / name for name in ("r", "tmp", "home", "cache")}
    for place in places.values():
        place.mkdir()
    environment = {
        **os.environ,
        "PALIMPSEST_KEY": KEY.decode(),
        "RAY_TMPDIR": str(places["r"]),
        "TMPDIR": str(places["tmp"]),
        "HOME": str(places["home"]),
        "PALIMPSEST_CACHE": str(places["cache"]),
    }
    with (scratch / "stdout").open("wb") as out, (scratch / "stderr").open("wb") as err:
        command = [sys.executable, "-m", "jobs", "run", str(recipe), "--log-json"]
        driver = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=err)
        processes = Processes(driver.pid)
        while not environment_of(driver.pid):  # between fork and exec there is none
            assert driver.poll() is None
            time.sleep(0.01)
        assert KEY in environment_of(driver.pid), "the search sees environments"
        while driver.poll() is None:
            processes.look()
            time.sleep(0.05)
    assert driver.returncode == 0, (scratch / "stderr").read_text()
    assert processes.seen("raylet", "gcs_server", "UnitActor")
    assert processes.names_of(KEY) == []
    logs = [*places["r"].rglob("worker-*.err")]
    assert logs, "Ray's session folder was searched"
    assert files_with(KEY, scratch, tmp_path) == []
    assert findings(tmp_path / "out", KEY) == [], "it was made with this key"
