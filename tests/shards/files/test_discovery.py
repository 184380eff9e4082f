"""Locate: which files a URI stands for, and what identifies them."""

import dataclasses
import os
import pickle
import subprocess
import sys
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError
from pipeline.shards.files.discovery import find_shards, read_schemas, would_find
from pipeline.shards.files.uris import absolute, open_binary
from tests.fixtures.shard_files import photos, write_shard


@pytest.fixture
def folder(tmp_path):
    images = photos(3)
    for name in ("train-1.parquet", "train-0.parquet", "deep/er/train-2.parquet", "_tmp/x.parquet", ".hidden.parquet"):
        write_shard(tmp_path / "in" / name, images, labels=[0, 1, 0], row_group=2)
    (tmp_path / "in" / "README.md").write_text("not a shard")
    return tmp_path


@pytest.fixture
def memory(folder):
    fs = fsspec.filesystem("memory")
    fs.put(str(folder / "in"), "/locate", recursive=True)
    yield "memory://locate"
    fs.rm("/locate", recursive=True)


def paths(shards):
    return [shard.path for shard in shards]


@pytest.mark.parametrize(
    ("uri", "base", "expected"),
    [
        ("data", "/a/b", "/a/b/data"),
        ("data/*.parquet", "/a/b/", "/a/b/data/*.parquet"),
        ("/x/y", "/a/b", "/x/y"),
        ("file:///x/y", "/a/b", "/x/y"),
        ("file://x/y", "/a/b", "/a/b/x/y"),
        ("x", "file:///a", "/a/x"),
        ("s3://bucket/x", "/a/b", "s3://bucket/x"),
        ("memory://x", "/a/b", "memory://x"),
        ("x/y", "s3://bucket/in", "s3://bucket/in/x/y"),
        ("x/y", "s3://bucket/in/", "s3://bucket/in/x/y"),
        ("x", "memory://", "memory://x"),
        ("/x", "s3://bucket", "/x"),
    ],
)
def test_absolute(uri, base, expected):
    assert absolute(uri, base) == expected


def test_absolute_knows_the_home_folder():
    assert absolute("~/x", "/a") == str(Path.home() / "x")


def test_a_folder_is_all_parquet_files_below_it(folder):
    shards = find_shards("in", str(folder))
    assert paths(shards) == ["deep/er/train-2.parquet", "train-0.parquet", "train-1.parquet"]
    first = shards[1]
    file = folder / "in" / "train-0.parquet"
    assert (first.uri, first.rows, first.group_rows, first.bytes) == (str(file), 3, (2, 1), file.stat().st_size)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("in/train-*.parquet", ["train-0.parquet", "train-1.parquet"]),
        ("in/train-[1].parquet", ["train-1.parquet"]),
        ("in/**/*.parquet", ["deep/er/train-2.parquet", "train-0.parquet", "train-1.parquet"]),
        ("in/deep/*/*.parquet", ["er/train-2.parquet"]),
        ("*/train-0.parquet", ["in/train-0.parquet"]),
        ("in/_tmp/*.parquet", ["x.parquet"]),
        ("in/_*/*.parquet", ["_tmp/x.parquet"]),
        ("in/train-1.parquet", ["train-1.parquet"]),
        ("in/_tmp/x.parquet", ["x.parquet"]),
        ("in/deep/../train-0.parquet", ["train-0.parquet"]),
    ],
)
def test_paths_are_relative_to_the_root(folder, uri, expected):
    assert paths(find_shards(uri, str(folder))) == expected
    assert paths(find_shards(f"file://{folder}/{uri}", "/nowhere")) == expected


@pytest.mark.parametrize(
    "uri", ["in", "in/*.parquet", "in/**/*.parquet", "in/*/*/*.parquet", "in/_*/*.parquet", "in/a.parquet"]
)
@pytest.mark.parametrize("place", ["b", "out/data/b", "_out/data/b", ".out/data/b", "_out/b", "../b"])
def test_what_would_be_found_is_found_once_it_is_there(tmp_path, uri, place):
    first, other = tmp_path / "in" / "a.parquet", tmp_path / "in" / f"{place}.parquet"
    for path in (first, tmp_path / "in/c/d/e.parquet", tmp_path / "in/_c/e.parquet"):
        write_shard(path, photos(1))
    foretold = would_find(uri, str(tmp_path), str(other.resolve()))
    write_shard(other, photos(1))
    assert foretold == (str(other.resolve()) in {shard.uri for shard in find_shards(uri, str(tmp_path))})


def test_a_file_name_with_glob_characters_is_a_file(tmp_path):
    write_shard(tmp_path / "odd[1].parquet", photos(1))
    assert paths(find_shards("odd[1].parquet", str(tmp_path))) == ["odd[1].parquet"]


def test_an_object_store_gives_the_same_shards(folder, memory):
    local = find_shards("in", str(folder))
    remote = find_shards(memory, "/nowhere")
    assert [dataclasses.replace(shard, uri="") for shard in remote] == [
        dataclasses.replace(shard, uri="") for shard in local
    ]
    assert all(shard.uri.startswith("memory://") for shard in remote)
    assert paths(find_shards("train-*.parquet", memory)) == ["train-0.parquet", "train-1.parquet"]
    assert paths(find_shards(f"{memory}/train-1.parquet", "")) == ["train-1.parquet"]
    for shard in remote:
        with open_binary(shard.uri) as stream:
            assert stream.read(4) == b"PAR1"


def test_the_digest_follows_the_content_not_the_place(tmp_path):
    images = photos(4)
    a = write_shard(tmp_path / "a.parquet", images)
    b = write_shard(tmp_path / "b" / "b.parquet", images)
    c = write_shard(tmp_path / "c.parquet", images[:3])
    d = write_shard(tmp_path / "d.parquet", images, row_group=2)
    digests = [find_shards(str(path), "/")[0].digest for path in (a, b, c, d)]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3
    assert all(len(digest) == 64 for digest in digests)


def test_a_footer_longer_than_the_first_read(tmp_path):
    table = pa.table({f"column_{i}": [1, 2] for i in range(900)})
    pq.write_table(table, tmp_path / "wide.parquet")
    shard = find_shards("wide.parquet", str(tmp_path))[0]
    assert shard.bytes > 70_000
    assert shard.rows == 2
    assert len(read_schemas([shard])[0]) == 900


def test_a_shard_without_rows_is_allowed_among_others(tmp_path):
    write_shard(tmp_path / "a.parquet", [])
    with pytest.raises(InputError, match="1 shard, none with a row in it"):
        find_shards(".", str(tmp_path))
    write_shard(tmp_path / "b.parquet", photos(1))
    assert [shard.rows for shard in find_shards(".", str(tmp_path))] == [0, 1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"PAR1", "not a Parquet file"),
        (b"id,label\n1,2\n" * 100, "not a Parquet file"),
        (b"PAR1" + b"\xff" * 100 + (80).to_bytes(4, "little") + b"PAR1", "the Parquet footer is corrupt"),
        (b"PAR1" + b"\0" * 10 + (2**31).to_bytes(4, "little") + b"PAR1", "not a Parquet file, or truncated"),
        (b"PAR1" + b"\0" * 100 + b"PARE", "encrypted"),
    ],
)
def test_what_is_not_parquet_is_one_clear_line(tmp_path, content, message):
    write_shard(tmp_path / "a.parquet", photos(1))
    (tmp_path / "b.parquet").write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        find_shards(".", str(tmp_path))
    assert "b.parquet" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_truncated_shard(tmp_path):
    path = write_shard(tmp_path / "a.parquet", photos(5))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="truncated"):
        find_shards("a.parquet", str(tmp_path))


@pytest.mark.parametrize("uri", ["none", "none/*.parquet", "*.nothing", "empty", "memory://none", "memory://none/*.x"])
def test_nothing_found(tmp_path, uri):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"nothing is there|no Parquet file found"):
        find_shards(uri, str(tmp_path))


@pytest.mark.parametrize("uri", ["nosuch://x/y.parquet", "zip://*.parquet::/x.zip"])
def test_an_unknown_protocol(uri):
    with pytest.raises(InputError, match=r"nosuch|chained"):
        find_shards(uri, "/")


def test_a_missing_object_store_package_names_the_remedy():
    code = (
        "import sys; sys.modules['s3fs'] = None\n"
        "from pipeline.shards.files.discovery import find_shards\n"
        "from pipeline.errors import InputError\n"
        "try: find_shards('s3://bucket/x', '/')\n"
        "except InputError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install palimpsest[s3]" in done.stdout


def test_a_changed_shard_is_noticed(tmp_path):
    path = write_shard(tmp_path / "a.parquet", photos(2))
    shard = find_shards(str(path), "/")[0]
    stale = dataclasses.replace(shard, digest="0" * 64)
    with pytest.raises(InputError, match="changed since it was found"):
        read_schemas([stale])


def test_shards_are_picklable_and_hashable(folder):
    shards = find_shards("in", str(folder))
    assert pickle.loads(pickle.dumps(shards)) == shards
    assert len(set(shards)) == 3


def test_many_shards_are_found_in_order(tmp_path):
    first = write_shard(tmp_path / "00000.parquet", photos(1, 8, 8))
    for i in range(1, 300):
        os.link(first, tmp_path / f"{i:05d}.parquet")
    shards = find_shards(str(tmp_path), "/")
    assert paths(shards) == [f"{i:05d}.parquet" for i in range(300)]
    assert len({id(schema) for schema in read_schemas(shards)}) == 1


@pytest.mark.parametrize("name", ["a.parquet", "a.parquet?token=1", "*.parquet", "{a,b}.parquet"])
def test_a_server_that_is_away_is_not_taken_for_one_without_the_file(name):
    with pytest.raises(InputError, match=r"cannot be listed: ClientConnectorError: Cannot connect to host"):
        find_shards(f"http://127.0.0.1:9/{name}", "/")
