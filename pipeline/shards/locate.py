"""Find input shards: which Parquet files there are, how many rows each holds, and what identifies each of them."""

import hashlib
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.utils import glob_translate

from pipeline.errors import InputError

_THREADS: Final = 8
_TAIL_BYTES: Final = 65_536  # one request brings the whole footer of all but very wide or very finely grouped files
_MAGIC: Final = b"PAR1"
_GLOB: Final = re.compile(r"[*?\[]")
_EXTRAS: Final = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}

ReadRange = Callable[[int, int], bytes]  # (first byte, end) -> bytes


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


@dataclass(frozen=True)
class Footer:
    """What the end of a Parquet file says about it."""

    bytes: int
    digest: str
    metadata: pq.FileMetaData
    schema: pa.Schema


def absolute(uri: str, base: str) -> str:
    """Return `uri` as an absolute local path, or unchanged where it names a protocol other than `file`.

    A relative local path is relative to `base`, a folder or a URI of one. `~` is the home folder.
    """
    if "://" in uri and not uri.startswith("file://"):
        return uri
    path = Path(uri.removeprefix("file://")).expanduser()
    if "://" in base and not base.startswith("file://") and not path.is_absolute():
        return f"{base}{uri}" if base.endswith("/") else f"{base}/{uri}"
    return str(Path(base.removeprefix("file://"), path).absolute())


def filesystem(uri: str) -> tuple[Any, str]:
    """Return the fsspec file system that `uri` is on, and the path on it.

    Raises:
        InputError: an unknown protocol, a missing package for it, or a chain of protocols (`zip://..::s3://..`).
    """
    if "::" in uri and "://" in uri:
        raise InputError(f"{uri}: chained protocols are not supported; unpack the archive, or mount it")
    protocol = uri.partition("://")[0]
    try:
        fs, path = fsspec.core.url_to_fs(uri)
    except ImportError as error:
        extra = _EXTRAS.get(protocol)
        remedy = f"pip install palimpsest[{extra}]" if extra else _one_line(error)
        raise InputError(f"{uri}: the package that opens {protocol}:// is not installed; {remedy}") from error
    except ValueError as error:
        raise InputError(f"{uri}: {_one_line(error)}") from error
    return fs, str(path)


def open_binary(uri: str) -> BinaryIO:
    """Open a local path or a URI for reading bytes, seekable.

    Raises:
        InputError: its protocol cannot be opened (see `filesystem`).
        OSError: the file is missing or cannot be read.
    """
    if is_local(uri):
        return open(uri.removeprefix("file://"), "rb")
    fs, path = filesystem(uri)
    # Parquet readers jump between columns: a read-ahead cache would fetch most bytes several times over.
    return cast(BinaryIO, fs.open(path, "rb", cache_type="none"))


def is_local(uri: str) -> bool:
    """Return whether `uri` is a path of this machine."""
    return "://" not in uri or uri.startswith("file://")


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
        raise InputError(f"input.uri {where}: cannot be listed: {_one_line(error)}") from error
    if not files:
        raise InputError(f"input.uri {where}: no Parquet file found; give a file, a glob, or a folder of *.parquet")
    names = sorted(files, key=lambda name: _below(root, name))

    def shard(name: str) -> Shard:
        found = name if is_local(where) else str(fs.unstrip_protocol(name))
        footer = _footer_of(fs, name, files[name], found)
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
        known = _schemas.get(shard.digest)
        if known is not None:
            return known
        fs, path = filesystem(shard.uri)
        if _footer_of(fs, path, None, shard.uri).digest != shard.digest:
            raise InputError(f"{shard.uri}: the file has changed since it was found; plan again")
        return _schemas[shard.digest]

    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(schema, shards))


def read_footer(read: ReadRange, size: int, name: str) -> Footer:
    """Return the footer of a Parquet file of `size` bytes, from its tail alone.

    Raises:
        InputError: the file is empty, is not Parquet, or its footer is corrupt or encrypted.
    """
    if size == 0:
        raise InputError(f"{name}: the file is empty (0 bytes)")
    tail = read(max(0, size - _TAIL_BYTES), size)
    if tail[-4:] == b"PARE":
        raise InputError(f"{name}: the Parquet footer is encrypted; store the shard without encryption")
    length = int.from_bytes(tail[-8:-4], "little") + 8
    if tail[-4:] != _MAGIC or length + 4 > size:
        raise InputError(f"{name}: not a Parquet file, or truncated ({size} bytes, and no Parquet footer at the end)")
    if length > len(tail):
        tail = read(size - length, size)
    footer = tail[-length:]
    try:
        file = pq.ParquetFile(pa.BufferReader(_MAGIC + footer))
        schema = file.schema_arrow
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{name}: the Parquet footer is corrupt: {_one_line(error)}") from error
    digest = hashlib.sha256(footer + str(size).encode()).hexdigest()
    _remember(digest, schema)
    return Footer(size, digest, file.metadata, schema)


# Schemas by shard digest, so that `read_layout` need not fetch thousands of footers a second time. The digest covers
# the schema, so an entry can never be out of date.
_schemas: dict[str, pa.Schema] = {}
_interned: dict[bytes, pa.Schema] = {}


def _remember(digest: str, schema: pa.Schema) -> None:
    """Keep a schema under its shard's digest, once for all shards that share it."""
    _schemas[digest] = _interned.setdefault(schema.serialize().to_pybytes(), schema)


def _footer_of(fs: Any, path: str, size: int | None, name: str) -> Footer:
    """Read the footer of one file on `fs`."""
    try:
        if size is None:
            size = int(fs.size(path))
        return read_footer(lambda first, end: cast(bytes, fs.cat_file(path, start=first, end=end)), size, name)
    except InputError:
        raise
    except Exception as error:  # every object store brings its own errors
        raise InputError(f"{name}: cannot be read: {_one_line(error)}") from error


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


def _one_line(error: BaseException) -> str:
    """Return the kind and the text of an error on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
