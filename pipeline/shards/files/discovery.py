"""Discovery of input shards: which Parquet files there are, how many rows each has, and what identifies each."""

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

import pyarrow as pa

from pipeline.errors import InputError
from pipeline.messages import error_line
from pipeline.shards.files.file_types import advice
from pipeline.shards.files.listing import OTHER_EXTENSION, SAME_FILE, Listing, Skipped, below, list_files, would_list
from pipeline.shards.files.parquet_footer import cached_schema, read_file_footer
from pipeline.shards.files.partitions import Partitions, partitions_of
from pipeline.shards.files.uris import absolute, cause_of, filesystem
from pipeline.working_dir import persistent_path

_THREADS: Final = 8


@dataclass(frozen=True)
class Shard:
    """One Parquet file of the input.

    `path` is relative to the root of the search, '/'-separated: it stays the same where the data moves as a whole.
    `digest` is the sha256 (64 hex digits) of the footer's bytes and the file's size. The footer holds the schema, and
    offset, size and statistics of every column chunk, so it tells shards apart without reading a pixel. `columns` are
    the digests of the columns beside the images, and `file_version` is the state of the file that they were read from;
    `pipeline.shards.identity` fills both in. `group_rows` is the number of rows of each row group.
    """

    uri: str
    path: str
    rows: int
    bytes: int
    digest: str
    group_rows: tuple[int, ...]
    columns: tuple[tuple[str, str], ...] = ()
    file_version: str = field(default="", compare=False)

    @cached_property
    def partitions(self) -> Partitions:
        """Values that the names of its folders give, such as `label=cat/`."""
        return partitions_of(self.uri, self.path)


@dataclass(frozen=True)
class InputFiles:
    """The files of an input: its shards, sorted by path, and the names that were skipped."""

    shards: tuple[Shard, ...]
    skipped: Skipped


def find_input(uris: str | Sequence[str], base: str) -> InputFiles:
    """Return the Parquet files of files, globs and folders, sorted by path; reads only their footers.

    A folder stands for every file below it that `is_shard_name` takes. In folders and behind wildcards, names
    that begin with `_` or `.` are left out. The root that `path` is relative to is the folder; of a glob, the last
    folder before its first wildcard or brace; of a file, its parent; of several URIs, the deepest folder that holds the
    roots of all (where they share none, a path is the whole URI). No two shards have one path. A shard without rows is
    allowed among others.

    Raises:
        InputError: a URI that stands for nothing, a file that is not Parquet, an empty file, no rows in all, or a
            missing package.
    """
    places = [absolute(uri, base) for uri in ([uris] if isinstance(uris, str) else uris)]
    listings = [_listing(place) for place in places]
    root = None if len(listings) == 1 else _common_folder([each.uri(each.root) for each in listings])
    skipped = Skipped()
    files: dict[str, tuple[str, Listing, str]] = {}  # by URI: path, and where it is
    for listing in listings:
        skipped.update(listing.skipped)
        for name in listing.files:
            uri = listing.uri(name)
            _check_name(uri)
            files[uri] = (below(listing.root, name) if root is None else below(root, uri), listing, name)
    skipped.decide(files)
    for uri, kept in _other_names(uri for uri, (_, listing, _) in files.items() if listing.local).items():
        skipped.add(SAME_FILE, f"{files[uri][0]} ({files[kept][0]})")
        del files[uri]

    def shard(uri: str) -> Shard:
        path, listing, name = files[uri]
        lasts = persistent_path(uri) if listing.local else uri
        footer = read_file_footer(listing.fs, name, listing.files[name], lasts)
        metadata = footer.metadata
        groups = tuple(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups))
        return Shard(lasts, path, metadata.num_rows, footer.bytes, footer.digest, groups)

    with ThreadPoolExecutor(_THREADS) as pool:
        shards = tuple(pool.map(shard, sorted(files, key=lambda uri: files[uri][0])))
    if not any(shard.rows for shard in shards):
        count = f"{len(shards)} shard" + "s" * (len(shards) != 1)
        raise InputError(f"input.uri {', '.join(places[:3])}: {count}, none with a row in it")
    return InputFiles(shards, skipped)


def find_shards(uris: str | Sequence[str], base: str) -> tuple[Shard, ...]:
    """Return only the shards of `find_input`."""
    return find_input(uris, base).shards


def find_shard(uri: str, path: str, base: str) -> Shard:
    """Return one shard that an earlier run has read, by its URI and its path relative to the root of that run.

    Raises:
        InputError: it is not there, or not Parquet.
    """
    (found,) = find_shards(uri, base)
    # A single file is found under its own name; folders that state columns are seen from the root alone.
    return Shard(found.uri, path, found.rows, found.bytes, found.digest, found.group_rows)


def would_find(uris: str | Sequence[str], base: str, name: str) -> bool:
    """Return whether `find_shards` of this input would take a file called `name` (a path or a URI) if it existed."""
    return any(would_list(absolute(uri, base), name) for uri in ([uris] if isinstance(uris, str) else uris))


def read_schemas(shards: Iterable[Shard]) -> list[pa.Schema]:
    """Return the Arrow schema of each shard, metadata kept; equal schemas are one object.

    Raises:
        InputError: a shard cannot be read, or is no longer the one that was found.
    """

    def schema(shard: Shard) -> pa.Schema:
        known = cached_schema(shard.digest)
        if known is not None:
            return known
        fs, path = filesystem(shard.uri)
        footer = read_file_footer(fs, path, None, shard.uri)
        if footer.digest != shard.digest:
            raise InputError(f"{shard.uri}: the file has changed since it was found; plan again")
        return cached_schema(shard.digest) or footer.schema

    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(schema, shards))


def _listing(where: str) -> Listing:
    """Return the files of one URI; raise InputError if there are none."""
    try:
        listing = list_files(where)
    except InputError:
        raise
    except Exception as error:  # every object store brings its own errors
        cause = cause_of(error)
        absent = isinstance(cause, FileNotFoundError)
        said = "nothing is there; check the path" if absent else f"cannot be listed: {error_line(cause)}"
        raise InputError(f"input.uri {where}: {said}") from error
    if not listing.files:
        known = advice(listing.skipped.names(OTHER_EXTENSION), listing.uri(listing.root))
        said = f"it holds {known}" if known else "give a file, a glob, or a folder of *.parquet"
        listing.skipped.decide(())
        over = f"; {listing.skipped}" if listing.skipped.counts else ""
        raise InputError(f"input.uri {where}: no Parquet file found{over}; {said}")
    return listing


def _common_folder(roots: Sequence[str]) -> str:
    """Return the deepest folder that holds all of these; empty if there is none."""
    parts = [root.split("/") for root in roots]
    shared = []
    for names in zip(*parts, strict=False):
        if len(set(names)) > 1:
            break
        shared.append(names[0])
    return "/".join(shared) if any(shared) and not shared[-1].endswith(":") else ""


def _other_names(names: Iterable[str]) -> dict[str, str]:
    """Return local files that are links to another in the list: {link: file}. Files that are no links are kept."""
    folders: dict[str, str] = {}
    kept: dict[str, str] = {}
    others = {}
    links = {name: Path(name).is_symlink() for name in names}
    for name in sorted(links, key=lambda name: (links[name], name)):
        folder, _, file = name.rpartition("/")
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        real = os.path.realpath(name) if links[name] else f"{folders[folder]}/{file}"
        if kept.setdefault(real, name) != name:
            others[name] = kept[real]
    return others


def _check_name(uri: str) -> None:
    """Raise InputError if a file name is not valid UTF-8."""
    try:
        uri.encode()
    except UnicodeEncodeError:
        raise InputError(f"input.uri: the name of {uri!r} is not UTF-8, and rows go by it; rename it") from None
