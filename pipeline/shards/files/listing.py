"""Which files a URI stands for, on this machine and in object stores, and which names are skipped.

On this machine symbolic links to files and folders are followed. A folder is entered once and a file is taken once,
however many links lead to it: under its own name rather than a link's.
"""

import errno
import os
import re
import stat
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fsspec.utils import glob_translate

from pipeline.errors import InputError
from pipeline.messages import listed
from pipeline.shards.files.file_types import is_shard_name
from pipeline.shards.files.uris import cause_of, filesystem, is_local

HIDDEN: Final = "hidden: begins with _ or ."
OTHER_EXTENSION: Final = "not named as Parquet"
NOT_MATCHED: Final = "named as Parquet, but not as the glob says"
SAME_FILE: Final = "a link to a file that is taken"
NOT_A_FILE: Final = "no regular file"
NO_MATCH: Final = "nothing is there"
FOLDER: Final = "a folder, where the glob asks for files"
_NAMES: Final = 5
_MAX_ALTERNATIVES: Final = 10_000
_MAX_STARS: Final = 6
"""Most `*` in one part of a path, and most `**` parts: the time to match grows exponentially with them."""
_GLOB: Final = re.compile(r"[*?\[]")
_PATTERN: Final = re.compile(r"[*\[{]")  # in a URL, where `?` begins the query
_BRACES: Final = re.compile(r"\{([^{},]*,[^{}]*|\d{1,18}\.\.\d{1,18})\}")


@dataclass
class Skipped:
    """Names of the input that were skipped: how many for each reason, and the first of them.

    A name that one glob skips may be taken by another. Such names are `undecided` ({(reason, URI): name}) until
    `decide` is called.
    """

    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, list[str]] = field(default_factory=dict)
    undecided: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, reason: str, name: str) -> None:
        self.counts[reason] = self.counts.get(reason, 0) + 1
        names = self.first.setdefault(reason, [])
        if len(names) < _NAMES:
            names.append(name)

    def update(self, other: "Skipped") -> None:
        """Add the names that another listing skipped."""
        for reason, count in other.counts.items():
            self.counts[reason] = self.counts.get(reason, 0) + count
            self.first[reason] = [*self.first.get(reason, []), *other.first[reason]][:_NAMES]
        self.undecided.update(other.undecided)

    def decide(self, taken: Container[str]) -> None:
        """Count the undecided names whose URIs were not taken."""
        for (reason, uri), name in self.undecided.items():
            if uri not in taken:
                self.add(reason, name)
        self.undecided.clear()

    def names(self, reason: str) -> list[str]:
        """Return the first names that were skipped for one reason."""
        return self.first.get(reason, [])

    def __str__(self) -> str:
        return "; ".join(
            f"{count} skipped: {reason} ({listed(self.names(reason), 3)})" for reason, count in self.counts.items()
        )


@dataclass
class Listing:
    """The files of one URI. `root` is the folder their paths are relative to; `files` maps path to size in bytes."""

    fs: Any
    local: bool
    root: str
    files: dict[str, int | None]
    skipped: Skipped

    def uri(self, name: str) -> str:
        """Return the URI of a file or a folder of this listing."""
        return name if self.local else str(self.fs.unstrip_protocol(name))


def list_files(uri: str) -> Listing:
    """Return the files of a URI: a file, a folder or a glob, in which `{a,b}` and `{00..15}` are alternatives.

    Raises:
        FileNotFoundError: nothing is there.
        InputError: a link to a shard that is not there, a pipe or a device, too many alternatives or wildcards.
    """
    fs, path = filesystem(uri)
    local = is_local(uri)
    patterns = _patterns(fs, path)
    skipped = Skipped()
    listings = []
    for pattern in patterns:
        try:
            listings.append(_list_one(fs, local, pattern, skipped))
        except FileNotFoundError as error:
            if len(patterns) == 1 or cause_of(error) is not error:
                raise
            skipped.add(NO_MATCH, pattern)
    if not listings:
        raise FileNotFoundError(path)
    root = listings[0][0] if len(patterns) == 1 else _root_before(path, _first_of(path))
    return Listing(fs, local, root, {name: size for _, files in listings for name, size in files.items()}, skipped)


def would_list(uri: str, name: str) -> bool:
    """Return whether `list_files` of this URI would take a file called `name` (a path or a URI) if it existed."""
    fs, path = filesystem(uri)
    wanted = filesystem(name)[1]
    for pattern in _patterns(fs, path):
        root = _glob_root(fs, pattern)
        if root is None:
            folder = pattern.rstrip("/")
            inside = wanted.startswith(folder + "/") and is_shard_name(wanted)
            if inside and not is_hidden(below(folder, wanted)):
                return True
        elif re.match(glob_translate(pattern), wanted) and _is_shown(root, pattern, wanted):
            return True
    return False


def _patterns(fs: Any, path: str) -> list[str]:
    """Return the path with its braces expanded; unchanged if a file has that very name."""
    if _exists(fs, path):
        return [path]
    found = alternatives(path)
    for parts in (pattern.split("/") for pattern in found):
        if max(parts.count("**"), *(part.count("*") for part in parts if part != "**"), 0) > _MAX_STARS:
            raise InputError(f"input.uri: more than {_MAX_STARS} `*` in one name, or `**` in one path; write fewer")
    return found


def alternatives(pattern: str) -> list[str]:
    """Return a pattern with `{a,b}` and `{00..15}` expanded, in order.

    Raises:
        InputError: more than 10,000.
    """
    made: list[str] = []
    waiting, looked_at = [pattern], 0
    while waiting:
        one, looked_at = waiting.pop(), looked_at + 1
        if (found := _BRACES.search(one)) is None:
            made.append(one)
        else:
            waiting += [one[: found.start()] + part + one[found.end() :] for part in reversed(_parts(found[1]))]
        if len(made) + len(waiting) > _MAX_ALTERNATIVES or looked_at > 2 * _MAX_ALTERNATIVES:
            raise InputError(f"input.uri: the braces stand for more than {_MAX_ALTERNATIVES:,} names; use wildcards")
    return list(dict.fromkeys(made))


def below(root: str, name: str) -> str:
    """Return a path relative to `root`."""
    return name[len(root) :].lstrip("/") if name.startswith(root) else name.lstrip("/")


def is_hidden(path: str) -> bool:
    """Return whether a part of a relative path begins with `_` or `.`."""
    return any(part.startswith(("_", ".")) for part in path.split("/"))


def _parts(text: str) -> list[str]:
    if ".." not in text or "," in text:
        return text.split(",")
    first, last = text.split("..")
    if int(last) - int(first) >= _MAX_ALTERNATIVES:
        raise InputError(f"input.uri: {{{text}}} stands for more than {_MAX_ALTERNATIVES:,} names; use wildcards")
    return [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]


def _list_one(fs: Any, local: bool, path: str, skipped: Skipped) -> tuple[str, dict[str, int | None]]:
    """Return the root of a pattern without braces, and its files with their sizes."""
    root = _glob_root(fs, path)
    if root is not None:
        found = _walk_glob(root, path, skipped) if local else _remote_glob(fs, root, path, skipped)
        return root, dict(found)
    information = fs.info(path)
    if local and Path(path).is_dir():
        return path.rstrip("/"), dict(_walk_folder(path.rstrip("/"), skipped))
    if information["type"] == "directory":
        return path.rstrip("/"), dict(_remote_folder(fs, path.rstrip("/"), skipped))
    if local and not stat.S_ISREG(Path(path).stat().st_mode):
        raise InputError(f"input.uri {path}: a pipe, a socket or a device, not a file")
    return path.rpartition("/")[0], {path: Path(path).stat().st_size if local else information.get("size")}


def _walk_folder(root: str, skipped: Skipped) -> Iterator[tuple[str, int]]:
    for name, status in _walk(root, None, False, skipped):
        if is_shard_name(name):
            yield name, _size(name, status)
        elif status is None or stat.S_ISREG(status.st_mode):
            skipped.add(OTHER_EXTENSION, below(root, name))
        else:
            skipped.add(NOT_A_FILE, below(root, name))


def _walk_glob(root: str, glob: str, skipped: Skipped) -> Iterator[tuple[str, int]]:
    if not Path(root or "/").is_dir():
        return
    rest = glob[len(root) :].lstrip("/")
    depth = None if "**" in rest else rest.count("/")
    matches = re.compile(glob_translate(glob)).match
    for name, status in _walk(root, depth, is_hidden(rest), skipped, matches):
        if matches(name):
            yield name, _size(name, status)
        elif is_shard_name(name):
            skipped.undecided[NOT_MATCHED, name] = below(root, name)


def _size(name: str, status: os.stat_result | None) -> int:
    if status is None:
        raise InputError(f"input.uri: {name} is a link to nothing ({Path(name).readlink()}); restore it")
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"input.uri: {name} is a pipe, a socket or a device, not a file; take it away")
    return status.st_size


def _walk(
    root: str, depth: int | None, hidden: bool, skipped: Skipped, matches: Any = None
) -> Iterator[tuple[str, os.stat_result | None]]:
    """Yield every file below a local folder with its status; None for a link that leads nowhere.

    Linked folders come last, so that a file which is reached both ways keeps its own name.

    Args:
        depth: folders to go down at most; None: all.
        hidden: whether names that begin with `_` or `.` are entered and yielded.
        matches: for a glob: tells whether it would take a folder of that name.
    """
    entered: set[str] = set()
    own, linked = [(root or "/", 0)], list[tuple[str, int]]()
    while own or linked:
        folder, level = own.pop() if own else linked.pop(0)
        real = os.path.realpath(folder)
        if real in entered:
            continue
        entered.add(real)
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found:
            if is_hidden(entry.name) and not hidden:
                skipped.undecided[HIDDEN, entry.path] = below(root, entry.path) + "/" * _is_folder(entry)
            elif not _is_folder(entry):
                yield entry.path, _status(entry)
            else:
                if matches is not None and matches(entry.path):
                    skipped.undecided[FOLDER, entry.path] = below(root, entry.path) + "/"
                if depth is None or level < depth:
                    (linked if entry.is_symlink() else own).append((entry.path, level + 1))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _status(entry: os.DirEntry[str]) -> os.stat_result | None:
    try:
        return entry.stat()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        raise


def _remote_folder(fs: Any, root: str, skipped: Skipped) -> Iterator[tuple[str, int | None]]:
    for name, information in fs.find(root, detail=True).items():
        if information["type"] != "file":
            continue
        if is_hidden(below(root, name)):
            skipped.add(HIDDEN, below(root, name))
        elif is_shard_name(name):
            yield name, information.get("size")
        else:
            skipped.add(OTHER_EXTENSION, below(root, name))


def _remote_glob(fs: Any, root: str, glob: str, skipped: Skipped) -> Iterator[tuple[str, int | None]]:
    rest = glob[len(root) :].lstrip("/")
    depth = None if "**" in rest else rest.count("/") + 1
    matches = re.compile(glob_translate(glob)).match
    # `fs.glob` asks the store for what begins as the glob does, and so never sees what it passes over.
    for name, information in sorted(fs.find(root, maxdepth=depth, withdirs=True, detail=True).items()):
        is_file, taken = information["type"] == "file", matches(name.rstrip("/"))
        if not taken and not (is_file and is_shard_name(name)):
            continue
        if not _is_shown(root, glob, name):
            skipped.undecided[HIDDEN, str(fs.unstrip_protocol(name))] = below(root, name)
        elif not taken:
            skipped.undecided[NOT_MATCHED, str(fs.unstrip_protocol(name))] = below(root, name)
        elif is_file:
            yield name, information.get("size")
        else:
            skipped.undecided[FOLDER, str(fs.unstrip_protocol(name))] = below(root, name) + "/"


def _is_shown(root: str, glob: str, name: str) -> bool:
    """Return whether a name is not hidden, or the glob asks for hidden names."""
    return not is_hidden(below(root, name)) or is_hidden(below(root, glob))


def _glob_root(fs: Any, path: str) -> str | None:
    """Return the last folder before the first wildcard of a glob; None if `path` is no glob."""
    wildcard = _GLOB.search(path)
    return _root_before(path, wildcard.start()) if wildcard and not _exists(fs, path) else None


def _exists(fs: Any, path: str) -> bool:
    """Return whether a file has exactly this name. Errors of a web server are raised, not taken for absence."""
    strict = {"strict": True} if "http" in fs.protocol and not _PATTERN.search(path) else {}
    return bool(fs.exists(path, **strict))


def _root_before(path: str, place: int) -> str:
    return path[:place].rpartition("/")[0]


def _first_of(path: str) -> int:
    """Return the index of the first wildcard or brace in a pattern."""
    found = [match.start() for match in (_GLOB.search(path), _BRACES.search(path)) if match]
    return min(found, default=len(path))
