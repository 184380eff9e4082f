"""What identifies the content of a shard: a digest of each column that a run reads beside the encoded images.

The digest of a footer tells most shards apart, but a label that was corrected in place may not change the footer. So
the stored bytes of these columns are hashed, undecoded, at the offsets in the footer: labels, ids, every other column
without binary data, masks, and paths of images. Encoded images are not hashed: each row's `source_sha256` records what
was read, and `verify` compares it with the source.

Digests are cached on the node (`PALIMPSEST_CACHE`) under the version of the file: for a local file size, mtime, ctime
(which a tool that resets mtime cannot reset) and inode; for an object its ETag. Files that changed within the last
seconds are not cached: a second change might leave the same times.
"""

import contextlib
import hashlib
import json
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Final

import pyarrow.parquet as pq

from pipeline.caches import cache_folder
from pipeline.errors import InputError
from pipeline.messages import error_line
from pipeline.shards.columns.layout import Layout
from pipeline.shards.files.discovery import Shard
from pipeline.shards.files.parquet_footer import ReadRange, read_file_footer
from pipeline.shards.files.uris import filesystem, is_local, open_binary

_THREADS: Final = 8
_DIGITS: Final = 16
_PIECE_BYTES: Final = 8 << 20
_YOUNG_NS: Final = 2_000_000_000
_TAGS: Final = ("ETag", "etag", "md5Hash", "md5", "generation", "version_id", "commit_hash")

Columns = tuple[tuple[str, str], ...]
"""Name and digest (16 hex digits of a sha256) of each column, sorted by name."""


def with_column_digests(shards: Sequence[Shard], layout: Layout) -> tuple[Shard, ...]:
    """Return the shards with their column digests and file versions.

    Raises:
        InputError: a shard cannot be read, or is no longer the one that was found.
    """

    def one(shard: Shard) -> Shard:
        file_version = read_file_version(shard.uri)
        return replace(shard, columns=column_digests(shard, layout, file_version), file_version=file_version)

    with ThreadPoolExecutor(_THREADS) as pool:
        return tuple(pool.map(one, shards))


def read_file_version(uri: str) -> str:
    """Return the version of a file: size, times and inode, or its ETag; empty if the store has none."""
    with contextlib.suppress(Exception):  # every object store brings its own errors; without a version, all is read
        if is_local(uri):
            status = Path(uri.removeprefix("file://")).stat()
            return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}-{status.st_ino}"
        fs, path = filesystem(uri)
        fs.invalidate_cache(fs._parent(path))  # a cached listing would give the earlier state
        info = fs.info(path)
        tag = next((info[name] for name in _TAGS if info.get(name)), "")
        return f"{info.get('size')}-{tag}".replace('"', "") if tag else ""
    return ""


def column_digests(shard: Shard, layout: Layout, file_version: str) -> Columns:
    """Return the digests of a shard's columns, from the cache if its file version and footer are the same.

    Raises:
        InputError: the shard cannot be read, or is no longer the one that was found.
    """
    wanted = _wanted(layout)
    kept = _kept_path(shard, file_version, sorted(wanted.items())) if file_version else None
    if kept is not None:
        with contextlib.suppress(OSError, ValueError, TypeError):
            return tuple((str(name), str(digest)) for name, digest in json.loads(kept.read_bytes()))
    fs, path = filesystem(shard.uri)
    footer = read_file_footer(fs, path, None, shard.uri)
    if footer.digest != shard.digest:
        raise InputError(f"{shard.uri}: the file has changed since it was found; plan again")
    try:
        with _ranges(shard.uri) as read:
            found = _hashed(footer.metadata, wanted, read)
    except Exception as error:  # every object store brings its own errors
        raise InputError(f"{shard.uri}: cannot be read: {error_line(error)}") from error
    if kept is not None and not _is_young(shard.uri):
        _keep(kept, found)
    return found


def changed_columns(before: Columns, now: Columns) -> list[str]:
    """Return the names of columns whose digests differ, among those that both have."""
    new = dict(now)
    return [name for name, digest in before if new.get(name, digest) != digest]


def _wanted(layout: Layout) -> dict[str, bool]:
    """Return the columns to hash; False for a column whose binary leaves are left out."""
    whole = {*layout.light, *(name for name in (layout.label, layout.id) if name)} - {layout.image}
    return {name: name in whole for name in layout.schema.names}


def _hashed(metadata: pq.FileMetaData, wanted: dict[str, bool], read: ReadRange) -> Columns:
    leaves = _leaves(metadata, wanted)
    hashes = {name: hashlib.sha256() for name in leaves.values()}
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        for leaf, name in leaves.items():
            chunk = row_group.column(leaf)
            offsets = [chunk.data_page_offset]
            if chunk.has_dictionary_page and chunk.dictionary_page_offset:
                offsets.append(chunk.dictionary_page_offset)
            start = min(offsets)
            end = start + chunk.total_compressed_size
            for first in range(start, end, _PIECE_BYTES):
                hashes[name].update(read(first, min(first + _PIECE_BYTES, end)))
    return tuple(sorted((name, found.hexdigest()[:_DIGITS]) for name, found in hashes.items()))


def _leaves(metadata: pq.FileMetaData, wanted: dict[str, bool]) -> dict[int, str]:
    """Return the Parquet columns to hash, each with the input column that it is part of."""
    found, schema = {}, metadata.schema
    for leaf in range(metadata.num_columns):
        column = schema.column(leaf)
        binary = column.physical_type == "BYTE_ARRAY" and column.logical_type.type == "NONE"
        parts = column.path.split(".")  # a column's own name may have dots as well
        owner = next((name for end in range(len(parts), 0, -1) if (name := ".".join(parts[:end])) in wanted), None)
        if owner is not None and (wanted[owner] or not binary):
            found[leaf] = owner
    return found


@contextlib.contextmanager
def _ranges(uri: str) -> Iterator[ReadRange]:
    """Give a function that reads a range of bytes of a file."""
    with open_binary(uri) as file:

        def read(first: int, end: int) -> bytes:
            file.seek(first)
            return file.read(end - first)

        yield read


def _kept_path(shard: Shard, file_version: str, wanted: list[tuple[str, bool]]) -> Path | None:
    name = hashlib.sha256(json.dumps(["columns/1", shard.uri, file_version, shard.digest, wanted]).encode()).hexdigest()
    with contextlib.suppress(RuntimeError):  # there is no home folder
        return cache_folder() / "shards" / name[:2] / f"{name}.json"
    return None


def _keep(path: Path, found: Columns) -> None:
    """Cache digests on the node; if that fails, they are computed again the next time."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{uuid.uuid4().hex}")
        partial.write_text(json.dumps(found))
        partial.replace(path)


def _is_young(uri: str) -> bool:
    if not is_local(uri):
        return False
    status = Path(uri.removeprefix("file://")).stat()
    return time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) < _YOUNG_NS
