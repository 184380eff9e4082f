"""Names in rows: what they open, and everything that they do not; `opened` is what the process really opened."""

import os
import pickle
import socket
import sys
from pathlib import Path

import fsspec
import pytest

from pipeline.errors import RecipeError, RowError
from pipeline.shards.links.linked_images import OWN_FOLDER, ImageLinks
from schemas.recipe import Input
from tests.fixtures.shard_files import photos

_watched: list[str] = []
_watching = [False]


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if _watching[0] and event == "open":
        _watched.append(str(arguments[0]))


sys.addaudithook(_watch)  # there is no way to take one off again


@pytest.fixture
def opened():
    _watched.clear()
    _watching[0] = True
    yield _watched
    _watching[0] = False


@pytest.fixture
def place(tmp_path):
    """A shard's folder with an image, and beside the folder a file that is not its business."""
    folder = tmp_path / "shards"
    (folder / "cats").mkdir(parents=True)
    (folder / "cats" / "1.png").write_bytes(photos(1, 8, 8)[0])
    secret = tmp_path / "key"
    secret.write_text("a key that no shard may read")
    secret.chmod(0o600)
    return folder


def code(answer: bytes | RowError) -> str:
    return answer.code if isinstance(answer, RowError) else "read"


def test_names_below_the_folder_are_read(place):
    (place / "there").symlink_to("cats")
    (place / "one.png").symlink_to(place / "cats" / "1.png")
    for name in ("cats/1.png", "./cats/1.png", "there/1.png", "one.png", "cats//1.png"):
        assert OWN_FOLDER.read(name, str(place)) == photos(1, 8, 8)[0], name


REFUSED = [
    "/proc/self/environ", "{}/key", "file://{}/key", "file:///proc/self/environ", "../key", "cats/../../key",
    "cats/../cats/1.png", "..", "~/key", "~root/key", "C:\\key", "C:/key", "\\\\host\\key", "..\\key", "a\0b", "a\nb",
    "\x1b]0;x", "/dev/zero", "/dev/stdin", "/", "//", "http://127.0.0.1:9/1.png", "https://example.org/1.png",
    "http://169.254.169.254/latest/meta-data/", "s3://bucket/1.png", "memory://key", "local:///etc/hostname",
    "zip://1.png::file:///etc/hostname", "filecache::/etc/hostname::file:///etc/hostname", "nosuch://x", "ftp://a/b",
    "reference://x", "github://a:b@c/d",
]  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_other_names_are_refused_and_never_opened(place, opened, name):
    name = name.format(place.parent)
    answer = OWN_FOLDER.read(name, str(place))
    assert code(answer) in ("path_refused", "missing_image")
    assert code(answer) == "path_refused" or not name.startswith(("/", "."))
    assert opened == []
    assert "a key that" not in str(answer)


def test_links_that_leave_the_folder_are_refused(place, opened):
    (place / "key.png").symlink_to(place.parent / "key")
    (place / "up").symlink_to("..")
    (place / "environ").symlink_to("/proc/self/environ")
    (place / "round").symlink_to("round")
    names = ["key.png", "up/key", "environ", "up/shards/../key"]
    assert [code(OWN_FOLDER.read(name, str(place))) for name in names] == ["path_refused"] * 4
    assert opened == []
    assert code(OWN_FOLDER.read("round", str(place))) == "path_refused"


def test_what_is_no_regular_file_is_not_opened(place, opened):
    os.mkfifo(place / "pipe.png")
    with socket.socket(socket.AF_UNIX) as listening:
        before = Path.cwd()
        os.chdir(place)  # the name of a socket is short
        try:
            listening.bind("socket.png")
        finally:
            os.chdir(before)
        (place / "device.png").symlink_to("/dev/zero")
        names = ["pipe.png", "socket.png", "device.png", "cats", "."]
        assert [code(OWN_FOLDER.read(name, str(place))) for name in names] == ["path_refused"] * 5
    assert not [name for name in opened if name.endswith(".png")]


def test_files_that_are_not_there_are_the_rows(place):
    for name in ("gone.png", "cats/gone.png", "cats/1.png/below", "x" * 300, "gone/1.png"):
        assert code(OWN_FOLDER.read(name, str(place))) == "missing_image", name


def test_a_file_is_bounded(place):
    (place / "big.png").write_bytes(b"x" * 101)
    links = ImageLinks(max_bytes=100)
    assert code(links.read("big.png", str(place))) == "too_large"
    assert "max_image_bytes" in str(links.read("big.png", str(place)))
    assert ImageLinks(max_bytes=101).read("big.png", str(place)) == b"x" * 101


def test_absolute_paths_below_allowed_folders(place):
    shared = place.parent / "shared"
    shared.mkdir()
    (shared / "1.png").write_bytes(b"image")
    (shared / "key.png").symlink_to(place.parent / "key")
    (place / "away.png").symlink_to(shared / "1.png")
    links = ImageLinks.of(Input(uri="in", allow_paths=["shared"]), str(place.parent))
    assert pickle.loads(pickle.dumps(links)) == links
    for name in (f"{shared}/1.png", f"file://{shared}/1.png", "away.png"):
        assert links.read(name, str(place)) == b"image", name
        assert links.read(name, "memory://x") == b"image" or name == "away.png"
    for name in (f"{shared}/key.png", f"{shared}/../key", f"{shared}2/1.png", f"{place.parent}/key", str(shared)):
        assert code(links.read(name, str(place))) == "path_refused", name


@pytest.mark.parametrize(
    ("field", "value"),
    [("allow_paths", ""), ("allow_paths", "s3://bucket"), ("allow_urls", "/data"), ("allow_urls", "file:///data")],
)
def test_rules_that_are_none_name_the_field(field, value):
    with pytest.raises(RecipeError, match=rf"recipe\.input\.{field}\[0\] = "):
        ImageLinks.of(Input.model_validate({"uri": "in", field: [value]}), "/")


def test_a_shard_in_an_object_store_opens_what_is_beside_it():
    store = fsspec.filesystem("memory")
    store.pipe("/doors/in/1.png", b"inside")
    store.pipe("/doors/key", b"outside")
    try:
        folder = "memory://doors/in"
        assert OWN_FOLDER.read("1.png", folder) == b"inside"
        assert code(OWN_FOLDER.read("gone.png", folder)) == "missing_image"
        for name in ("../key", "memory://doors/key", "/doors/key", "memory://doors/in/1.png"):
            assert code(OWN_FOLDER.read(name, folder)) == "path_refused", name
        assert ImageLinks(urls=("memory://doors",)).read("memory://doors/key", folder) == b"outside"
        assert code(ImageLinks(max_bytes=3).read("1.png", folder)) == "too_large"
    finally:
        store.rm("/doors", recursive=True)
