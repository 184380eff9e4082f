"""Find input shards: which Parquet files there are, how many rows each holds, and what identifies each of them."""

import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
from fsspec.utils import glob_translate

from pipeline.errors import InputError
from pipeline.shards.footers import footer_of, known_schema
from pipeline.shards.uris import absolute, filesystem, is_local, one_line
from pipeline.working_copy import lasting

_THREADS: Final = 8
_GLOB: Final = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Shard:
    """One Parquet file of the input.

    `path` is relative to the root of the search, '/'-separated: it stays the same where the data moves as a whole.
    `digest` is the sha256 (64 hex digits) of the footer's bytes and the file's size. The footer holds the schema, and
    place, size and statistics of every column chunk, so it tells shards apart without reading a pixel; what a row
    really held is guarded by `source_sha256` in its lineage. `group_rows` are the rows of each row group.
    """

    uri: str
    path: str
    rows: int
    bytes: int
    digest: str
    group_rows: tuple[int, ...]


def find_shards(uri: str, base: str) -> tuple[Shard, ...]:
    """Return the Parquet files that a file, a glob or a folder stands for, sorted by path; read their footers alone.

    A folder stands for every `*.parquet` below it. In folders and behind wildcards, names that begin with `_` or `.`
    are left out. The root that `path` is relative to is the folder; of a glob, the last folder before its first
    wildcard; of a file, its parent. A shard without rows is allowed among others.

    Raises:
        InputError: nothing found, a file that is not Parquet, an empty file, no rows in all, or a missing package.
    """
    where = absolute(uri, base)
    fs, path = filesystem(where)
    try:
        root, files = _list(fs, path)
    except FileNotFoundError as error:
        raise InputError(f"input.uri {where}: nothing is there; check the path") from error
    except InputError:
        raise
    except Exception as error:  # every object store brings its own errors
        raise InputError(f"input.uri {where}: cannot be listed: {one_line(error)}") from error
    if not files:
        raise InputError(f"input.uri {where}: no Parquet file found; give a file, a glob, or a folder of *.parquet")
    names = sorted(files, key=lambda name: _below(root, name))

    def shard(name: str) -> Shard:
        found = lasting(name) if is_local(where) else str(fs.unstrip_protocol(name))
        footer = footer_of(fs, name, files[name], found)
        metadata = footer.metadata
        groups = tuple(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups))
        return Shard(found, _below(root, name), metadata.num_rows, footer.bytes, footer.digest, groups)

    with ThreadPoolExecutor(_THREADS) as pool:
        shards = tuple(pool.map(shard, names))
    if not any(shard.rows for shard in shards):
        raise InputError(f"input.uri {where}: {_count(len(shards), 'shard')}, none with a row in it")
    return shards


def would_find(uri: str, base: str, name: str) -> bool:
    """Return whether `find_shards` of this input would take a file `name` (a path or a URI), were it there."""
    fs, path = filesystem(absolute(uri, base))
    wanted = filesystem(name)[1]
    root = _glob_root(fs, path)
    if root is None:
        return wanted.startswith(path.rstrip("/") + "/") and _is_taken(path.rstrip("/"), None, wanted)
    return re.match(glob_translate(path), wanted) is not None and _is_taken(root, path, wanted)


def read_schemas(shards: Iterable[Shard]) -> list[pa.Schema]:
    """Return the Arrow schema of each shard, metadata kept; equal schemas are one object.

    Raises:
        InputError: a shard cannot be read, or is no longer the one that was found.
    """

    def schema(shard: Shard) -> pa.Schema:
        known = known_schema(shard.digest)
        if known is not None:
            return known
        fs, path = filesystem(shard.uri)
        footer = footer_of(fs, path, None, shard.uri)
        if footer.digest != shard.digest:
            raise InputError(f"{shard.uri}: the file has changed since it was found; plan again")
        return known_schema(shard.digest) or footer.schema

    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(schema, shards))


def _list(fs: Any, path: str) -> tuple[str, dict[str, int | None]]:
    """Return the root, and the size of each file found by its path on `fs`."""
    root = _glob_root(fs, path)
    if root is not None:
        glob, found = path, fs.glob(path, detail=True)
    elif fs.info(path)["type"] == "directory":
        root, glob, found = path.rstrip("/"), None, fs.find(path, detail=True)
    else:
        return path.rpartition("/")[0], {path: fs.info(path).get("size")}
    names = [name for name in found if found[name]["type"] == "file" and _is_taken(root, glob, name)]
    return root, {name: found[name].get("size") for name in names}


def _glob_root(fs: Any, path: str) -> str | None:
    """Return the last folder before a glob's first wildcard; None where `path` is no glob."""
    wildcard = _GLOB.search(path)
    return path[: wildcard.start()].rpartition("/")[0] if wildcard and not fs.exists(path) else None


def _is_taken(root: str, glob: str | None, name: str) -> bool:
    """Return whether a file that is found below `root` is a shard: hidden names are only where a glob names such."""
    if glob is None and not name.endswith(".parquet"):
        return False
    return not _is_hidden(_below(root, name)) or (glob is not None and _is_hidden(_below(root, glob)))


def _below(root: str, name: str) -> str:
    """Return a path relative to `root`."""
    return name[len(root) :].lstrip("/") if name.startswith(root) else name.lstrip("/")


def _is_hidden(path: str) -> bool:
    """Return whether a part of a relative path begins with `_` or `.`."""
    return any(part.startswith(("_", ".")) for part in path.split("/"))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
