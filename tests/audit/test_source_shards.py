"""The manifest of a foreign data set cannot make verify, replay or report ask servers inside this network."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.audit.source_shards import reopen
from pipeline.audit.verify import verify_dataset
from pipeline.errors import InputError
from pipeline.publishing.manifest import read_manifest
from pipeline.shards.output.store import open_store
from schemas.manifest import Manifest
from tests.fixtures.data_sets import FLIP, plan_of, run_here, write_input, write_recipe


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """A server on this machine, and what it was asked for."""
    asked: list[str] = []

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        do_GET = do_HEAD

        def log_message(self, *_: object) -> None:
            pass

    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=served.serve_forever)
    thread.start()
    yield f"127.0.0.1:{served.server_address[1]}", asked
    served.shutdown()
    thread.join()
    served.server_close()


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    write_input(tmp_path / "data", rows=2)
    run_here(plan_of(write_recipe(tmp_path, [FLIP])))
    return read_manifest(open_store(str(tmp_path / "out")))


def test_a_shard_of_a_run_is_opened_again(manifest: Manifest) -> None:
    shard, layout = reopen(manifest, manifest.shards[0])
    assert (shard.digest, layout.image) == (manifest.shards[0].digest, "image")


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("http://{}/0.parquet", "leads to 127.0.0.1, which is no public address"),
        ("http://10.0.0.1/0.parquet", "leads to 10.0.0.1, which is no public address"),
        ("https://[::1]/0.parquet", "leads to ::1, which is no public address"),
        ("ftp://{}/0.parquet", "ftp:// is no local file, object store or web address"),
        ("sftp://{}/0.parquet", "sftp:// is no local file"),
        ("http://name@{}/0.parquet", "is no plain web address"),
    ],
)
def test_no_manifest_opens_a_place_inside_this_network(
    manifest: Manifest, server: tuple[str, list[str]], uri: str, why: str
) -> None:
    host, asked = server
    record = manifest.shards[0].model_copy(update={"uri": uri.format(host)})
    with pytest.raises(InputError, match=why):
        reopen(manifest, record)
    assert asked == []


def test_verify_says_that_it_did_not_look(tmp_path: Path, manifest: Manifest, server: tuple[str, list[str]]) -> None:
    host, asked = server
    record = manifest.shards[0].model_copy(update={"uri": f"http://{host}/0.parquet"})
    text = manifest.model_copy(update={"shards": [record]}).model_dump_json()
    (tmp_path / "out/manifest.json").write_text(text)
    notes = verify_dataset(open_store(str(tmp_path / "out"))).notes
    assert any("2 source links were not checked" in note and "no public address" in note for note in notes)
    assert asked == []
