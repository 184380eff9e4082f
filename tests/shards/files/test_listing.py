"""Listing: the whole input, or a word: links, endings, alternatives, several URIs, and what is skipped."""

import gzip
import io
import os
import subprocess
import sys
import tarfile

import fsspec
import pytest

from pipeline.errors import InputError
from pipeline.messages import one_line
from pipeline.shards.columns.layout import read_layout
from pipeline.shards.files.discovery import find_input, find_shards, would_find
from pipeline.shards.files.file_types import advice
from pipeline.shards.files.listing import (
    FOLDER,
    HIDDEN,
    NO_MATCH,
    NOT_A_FILE,
    NOT_MATCHED,
    OTHER_EXTENSION,
    SAME_FILE,
    alternatives,
)
from pipeline.shards.links.linked_images import ImageLinks
from pipeline.shards.reader import read_windows
from schemas.recipe import Columns
from tests.fixtures.shard_files import photos, write_shard


def paths(uris, base):
    return [shard.path for shard in find_shards(uris, str(base))]


def test_links_to_files_and_folders_are_followed_and_each_file_is_taken_once(tmp_path):
    write_shard(tmp_path / "blobs/1", photos(1))
    write_shard(tmp_path / "far/b.parquet", photos(2))
    write_shard(tmp_path / "in/own.parquet", photos(3))
    (tmp_path / "in/a.parquet").symlink_to("../blobs/1")
    (tmp_path / "in/z.parquet").symlink_to(tmp_path / "blobs/1")
    (tmp_path / "in/away").symlink_to(tmp_path / "far")
    (tmp_path / "in/own-again.parquet").symlink_to("own.parquet")
    found = find_input("in", str(tmp_path))
    assert [(shard.path, shard.rows) for shard in found.shards] == [
        ("a.parquet", 1), ("away/b.parquet", 2), ("own.parquet", 3),
    ]  # fmt: skip
    assert found.skipped.first == {SAME_FILE: ["own-again.parquet (own.parquet)", "z.parquet (a.parquet)"]}
    assert paths("in/*.parquet", tmp_path) == ["a.parquet", "own.parquet"]
    assert paths("in/**/b.parquet", tmp_path) == ["away/b.parquet"]
    assert paths("in/a.parquet", tmp_path) == ["a.parquet"]


def test_folders_that_link_to_one_another_end(tmp_path):
    write_shard(tmp_path / "in/0/x.parquet", photos(1))
    for level in range(20):  # two links a level: two to the power of 20 ways through
        folder = tmp_path / f"in/{level}"
        folder.mkdir(exist_ok=True)
        for name in ("a", "b"):
            (folder / name).symlink_to(tmp_path / f"in/{level + 1}")
    (tmp_path / "in/20").mkdir()
    (tmp_path / "in/20/up").symlink_to(tmp_path / "in")
    (tmp_path / "in/itself").symlink_to("itself")
    found = find_input("in", str(tmp_path))
    assert [shard.path for shard in found.shards] == ["0/x.parquet"]
    assert found.skipped.first == {OTHER_EXTENSION: ["itself"]}


def test_a_shard_whose_link_leads_nowhere_is_named(tmp_path):
    write_shard(tmp_path / "in/a.parquet", photos(1))
    (tmp_path / "in/b.parquet").symlink_to("../gone")
    with pytest.raises(InputError, match=r"b\.parquet is a link to nothing \(\.\./gone\)"):
        find_shards("in", str(tmp_path))


@pytest.mark.parametrize(
    "name",
    ["x.parquet", "x.PARQUET", "x.pq", "x.Parq", "x.parquet.gz", "x.parquet.gzip", "x.snappy.parquet",
     "x.parquet.snappy", "x.parquet.zst", "x.gz.parquet"],
)  # fmt: skip
def test_parquet_is_read_whatever_its_ending(tmp_path, name):
    write_shard(tmp_path / "in" / name, photos(1))
    assert paths("in", tmp_path) == [name]
    assert would_find("in", str(tmp_path), str(tmp_path / "in/more" / name))


def test_an_object_store_knows_the_same_names(tmp_path):
    for name in ("a.PQ", "b.parquet.gz", "_c.parquet", "d.txt"):
        write_shard(tmp_path / name, photos(1))
    fs = fsspec.filesystem("memory")
    fs.put(str(tmp_path), "/listing", recursive=True)
    try:
        found = find_input("memory://listing", "/")
        assert [shard.path for shard in found.shards] == ["a.PQ", "b.parquet.gz"]
        assert found.skipped.first == {HIDDEN: ["_c.parquet"], OTHER_EXTENSION: ["d.txt"]}
        found = find_input("memory://listing/a*", "/")
        assert [shard.path for shard in found.shards] == ["a.PQ"]
        assert found.skipped.first == {HIDDEN: ["_c.parquet"], NOT_MATCHED: ["b.parquet.gz"]}
        mixed = paths(["memory://listing/{a,b}*", str(tmp_path / "a.PQ")], "/")
        here = str(tmp_path / "a.PQ")[1:]
        assert mixed == sorted(["memory:///listing/a.PQ", "memory:///listing/b.parquet.gz", here])
    finally:
        fs.rm("/listing", recursive=True)


def test_a_file_that_is_compressed_as_a_whole_is_named_with_the_remedy(tmp_path):
    whole = write_shard(tmp_path / "x.parquet", photos(1)).read_bytes()
    (tmp_path / "x.parquet.gz").write_bytes(gzip.compress(whole))
    with pytest.raises(InputError, match=r"compressed with gzip.*`gunzip x\.parquet\.gz`"):
        find_shards(".", str(tmp_path))


def test_what_is_skipped_is_counted_and_named(tmp_path):
    write_shard(tmp_path / "in/a.parquet", photos(1))
    write_shard(tmp_path / "in/.cache/b.parquet", photos(1))
    for name in ("_SUCCESS", ".x.crc", "README.md", "a.parquet.tmp", *(f"{i}.json" for i in range(9))):
        (tmp_path / "in" / name).write_text("x")
    os.mkfifo(tmp_path / "in/pipe")
    skipped = find_input("in", str(tmp_path)).skipped
    assert skipped.counts == {HIDDEN: 3, OTHER_EXTENSION: 11, NOT_A_FILE: 1}
    assert skipped.first[HIDDEN] == [".cache/", ".x.crc", "_SUCCESS"]
    assert len(skipped.first[OTHER_EXTENSION]) == 5
    write_shard(tmp_path / "in/deep/c.parquet", photos(1))
    write_shard(tmp_path / "in/z.pq", photos(1))
    skipped = find_input("in/a*.parquet", str(tmp_path)).skipped
    assert (skipped.counts, skipped.first[NOT_MATCHED]) == ({HIDDEN: 3, NOT_MATCHED: 1}, ["z.pq"])


def test_a_folder_that_a_glob_would_take_is_named(tmp_path):
    write_shard(tmp_path / "in/a.parquet", photos(1))
    write_shard(tmp_path / "in/more/b.parquet", photos(1))
    assert find_input("in/*", str(tmp_path)).skipped.first == {FOLDER: ["more/"]}
    with pytest.raises(InputError, match=r"1 skipped: a folder, where the glob asks for files \(more/\)"):
        find_shards("in/m*", str(tmp_path))


@pytest.mark.parametrize("uri", ["in/pipe", "in/pipe.parquet", "in", "in/p*"])
def test_a_pipe_is_refused_and_never_opened(tmp_path, uri):
    write_shard(tmp_path / "in/a.parquet", photos(1))
    os.mkfifo(tmp_path / "in/pipe")
    os.mkfifo(tmp_path / "in/pipe.parquet")
    with pytest.raises(InputError, match="a pipe, a socket or a device"):
        find_shards(uri, str(tmp_path))


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a", ["a"]),
        ("{a,b}/x", ["a/x", "b/x"]),
        ("x{0..2}", ["x0", "x1", "x2"]),
        ("x{08..10}", ["x08", "x09", "x10"]),
        ("{a,b{1,2}}", ["a", "b1", "b2"]),
        ("{a,b}{c,d}", ["ac", "ad", "bc", "bd"]),
        ("{a}", ["{a}"]),
        ("{a,}", ["a", ""]),
        ("a{b", ["a{b"]),
        ("{{a,b},c}d", ["ad", "cd", "bd"]),
        ("{5..5}" * 3000, ["5" * 3000]),
        ("{" + "," * 60_000, ["{" + "," * 60_000]),
        ("{" + "0" * 60_000 + "..9}", ["{" + "0" * 60_000 + "..9}"]),
    ],
    ids=lambda text: str(text)[:20],
)
def test_alternatives(pattern, expected):
    assert alternatives(pattern) == expected


@pytest.mark.parametrize("pattern", ["{0..99999999}", "{a,b}" * 40, "{0..999}{0..999}", "{0..99}" * 999], ids=len)
def test_alternatives_are_bounded(pattern):
    with pytest.raises(InputError, match="more than 10,000 names"):
        alternatives(pattern)


@pytest.mark.parametrize("glob", ["in/" + "*a" * 9 + "b", "in/" + "**/" * 9 + "a.parquet", "{in,on}/" + "*a" * 9])
def test_wildcards_are_bounded(tmp_path, glob):
    write_shard(tmp_path / "in" / f"{'a' * 60}.parquet", photos(1))
    with pytest.raises(InputError, match=r"more than 6 `\*` in one name"):
        find_shards(glob, str(tmp_path))
    assert paths("in/*a*a*.*", tmp_path) == [f"{'a' * 60}.parquet"]


def test_braces_and_lists_are_one_input(tmp_path):
    for name in ("a/0", "b/0", "b/1", "c/0", "c/deep/0"):
        write_shard(tmp_path / f"in/{name}.parquet", photos(1))
    assert paths("in/{a,b}/0.parquet", tmp_path) == ["a/0.parquet", "b/0.parquet"]
    assert paths("in/{a,c}", tmp_path) == ["a/0.parquet", "c/0.parquet", "c/deep/0.parquet"]
    assert paths("in/{a,b}/*.parquet", tmp_path) == ["a/0.parquet", "b/0.parquet", "b/1.parquet"]
    assert paths(["in/a", "in/b"], tmp_path) == ["a/0.parquet", "b/0.parquet", "b/1.parquet"]
    assert paths(["in/b", "in/a"], tmp_path) == ["a/0.parquet", "b/0.parquet", "b/1.parquet"]
    assert paths(["in/c/deep", "in/c", "in/c/0.parquet"], tmp_path) == ["0.parquet", "deep/0.parquet"]
    assert find_input("in/{a*,b}/*.parquet", str(tmp_path)).skipped.first == {NOT_MATCHED: ["c/0.parquet"]}
    assert find_input(["in/b/0*", "in/b/1*"], str(tmp_path)).skipped.counts == {}
    assert find_input(["in/b/0*", "in/b/0.*"], str(tmp_path)).skipped.first == {NOT_MATCHED: ["1.parquet"]}
    assert paths(["in/a"], tmp_path) == paths("in/a", tmp_path) == ["0.parquet"]
    assert find_input("in/{a,z}", str(tmp_path)).skipped.first == {NO_MATCH: [str(tmp_path / "in/z")]}
    with pytest.raises(InputError, match="nothing is there"):
        find_shards(["in/a", "in/z"], str(tmp_path))
    assert would_find(["in/a", "in/{b,d}"], str(tmp_path), str(tmp_path / "in/d/x.parquet"))
    assert not would_find(["in/a", "in/{b,d}"], str(tmp_path), str(tmp_path / "in/e/x.parquet"))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["cat/0.jpg", "cat/1.JPEG", "notes.txt", "coco.json"], "images, .* make shards .*load_dataset"),
        (["a.csv"], "CSV; .*load_dataset"),
        (["a.tar", "b.tar"], "tar archives; .*load_dataset"),
        (["a.jsonl"], "JSON; .*load_dataset"),
        (["a.arrow"], "Arrow files; .*load_dataset\\('arrow'"),
        (["0.arrow", "dataset_info.json", "features.json"], "Arrow files; .*load_dataset\\('arrow'"),
        (["a.zip"], "an archive; unpack"),
        (["a.tfrecord", "dataset_info.json", "features.json"], "TFRecord"),
    ],
)
def test_an_input_of_another_format_says_how_to_make_shards(tmp_path, names, said):
    for name in names:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"something")
    with pytest.raises(InputError, match=f"no Parquet file found.*{said}"):
        find_shards("in", str(tmp_path))
    with pytest.raises(InputError, match=f"not a Parquet file, but {said}"):
        find_shards(f"in/{names[0]}", str(tmp_path))


def test_what_datasets_saved_is_loaded_from_disk():
    for names, written in (
        (["d/data-00000-of-00002.arrow", "d/dataset_info.json", "d/state.json"], "all.parquet"),
        (["dataset_dict.json", "train/data-00000-of-00001.arrow", "train/state.json"], "for s in d"),
    ):
        said = advice(names, "/in")
        assert said is not None and "load_from_disk('$PWD')" in said and written in said


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "webdataset", "json"])
def test_the_remedy_makes_shards_that_are_read(tmp_path, kind):
    folder = tmp_path / "in"
    folder.mkdir()
    for i, image in enumerate(photos(2)):
        (folder / f"{i}.png").write_bytes(image)
    name = {"csv": "m.csv", "webdataset": "m.tar", "json": "m.jsonl"}[kind]
    if kind == "csv":
        (folder / name).write_text("file_name,label\n0.png,a\n1.png,b\n")
    elif kind == "json":
        (folder / name).write_text('{"file_name": "0.png", "label": "a"}\n{"file_name": "1.png", "label": "b"}\n')
    elif kind == "webdataset":
        with tarfile.open(folder / name, "w") as tar:
            for i, image in enumerate(photos(2)):
                entry = tarfile.TarInfo(f"{i}.png")
                entry.size = len(image)
                tar.addfile(entry, io.BytesIO(image))
    said = advice([str(folder / name)], None)
    assert said is not None
    remedy(said, folder)
    (shard,) = find_shards("**/*.parquet", str(tmp_path))
    ((_, rows),) = read_windows(shard, read_layout((shard,), Columns(), ()), 0, 2, 8, ImageLinks())
    assert [row.data for row in rows] == photos(2)


@pytest.mark.slow
def test_the_remedy_keeps_class_folders_and_splits(tmp_path):
    for place, image in enumerate(photos(4)):
        folder = tmp_path / ("train", "test")[place // 2] / ("cat", "dog")[place % 2]
        folder.mkdir(parents=True)
        (folder / "0.png").write_bytes(image)
    said = advice(["train/cat/0.png"], str(tmp_path))
    assert said is not None
    remedy(said, tmp_path)
    shards = find_shards("*.parquet", str(tmp_path))
    layout = read_layout(shards, Columns(), ())
    assert layout.classes == ("cat", "dog")
    rows = [row for shard in shards for _, some in read_windows(shard, layout, 0, 2, 8) for row in some]
    assert [shard.path for shard in shards] == ["test.parquet", "train.parquet"]
    assert [(row.label, row.data) for row in rows] == list(
        zip([0, 1, 0, 1], photos(4)[2:] + photos(4)[:2], strict=True)
    )


def remedy(said, folder):
    said = one_line(f"input.uri {'deep/' * 99}: {said}")  # what a user sees
    command = said.partition("folder: ")[2].replace("python -c", f"{sys.executable} -c", 1)
    home = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder.parent / "home")}
    subprocess.run(command, shell=True, check=True, cwd=folder, env={**os.environ, **home}, capture_output=True)
