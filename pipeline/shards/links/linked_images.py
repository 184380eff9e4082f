"""Linked images: rows that hold a path or a URL instead of bytes, and which of these may be opened.

A shard may come from anybody, so a link in it opens no more than this:

    name                          opens
    ────────────────────────────  ───────────────────────────────────────────────────────────────────────────────────
    relative (`cats/1.png`)       a regular file below the shard's own folder; links inside it are followed
    absolute, `file://`           a regular file below a folder of `input.allow_paths`
    a URL                         what begins as `input.allow_urls` says, at an address that it allows
    `..`, `~`, a drive letter     nothing
    ────────────────────────────  ───────────────────────────────────────────────────────────────────────────────────

What is refused is never opened: RowError `path_refused`. A file that is not there is the row's error
(`missing_image`), a store or disk that fails is the unit's (UnitError): the next run makes it again.
"""

import errno
import os
import re
import stat
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from pipeline.errors import InputError, RecipeError, RowError, UnitError
from pipeline.messages import error_line
from pipeline.shards.files.uris import absolute, is_local, open_binary
from pipeline.shards.links.url_rules import HTTP, UrlRules, bad_rule
from schemas.recipe import MAX_IMAGE_BYTES, Input

_THREADS = 8
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]|\\\\")
_PATH_ONLY = getattr(os, "O_PATH", os.O_RDONLY)  # a folder may be passed through without the right to list it
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)


@dataclass(frozen=True)
class ImageLinks:
    """Which links in rows may be opened. Can be pickled; by default only files below the shard's own folder.

    `folders` are absolute local paths, `urls` prefixes of URLs, `max_bytes` is the largest size of a file. With
    `public_only`, no URL leads to an address inside this network.
    """

    folders: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    max_bytes: int = MAX_IMAGE_BYTES
    public_only: bool = False

    @classmethod
    def of(cls, given: Input, base: str, public_only: bool = False) -> "ImageLinks":
        """Return what a recipe allows; its relative folders are relative to `base`.

        Args:
            public_only: for the recipe in a manifest, which somebody else may have written.

        Raises:
            RecipeError: a folder is not local, or a URL is invalid.
        """
        for place, folder in enumerate(given.allow_paths):
            if not folder or _CONTROL.search(folder) or not is_local(folder):
                raise RecipeError(f"recipe.input.allow_paths[{place}] = {folder!r}: needs a local folder")
        for place, rule in enumerate(given.allow_urls):
            wrong = bad_rule(rule)
            if wrong is not None:
                raise RecipeError(f"recipe.input.allow_urls[{place}] = {rule!r}: {wrong}")
        folders = tuple(absolute(folder, base) for folder in given.allow_paths)
        return cls(folders, given.allow_urls, given.max_image_bytes, public_only)

    def refusal(self, name: str, folder: str) -> str | None:
        """Return why a link in a shard in `folder` is refused; None if it is allowed. Opens no file."""
        if _CONTROL.search(name):
            return "holds control characters"
        if name.startswith("~"):
            return "names a home folder, and names in rows are not expanded"
        if _DRIVE.match(name):
            return "is a path of another machine"
        if _is_url(name):
            return self._rules(folder).refusal(name)
        path = name.removeprefix("file://")
        if ".." in re.split(r"[/\\]", path):
            return "leads out of the shard's folder (`..`)"
        if path.startswith("/"):
            below = any(_is_below(os.path.normpath(path), os.path.normpath(each)) for each in self.folders)
            return None if below else "is an absolute path; only those below a folder of input.allow_paths are opened"
        if path != name:
            return "is a `file://` URL without an absolute path"
        return None

    def read(self, name: str, folder: str) -> bytes | RowError:
        """Return the bytes of one linked file, or the error of the row.

        Raises:
            UnitError: its store, server or disk failed.
        """
        refused = self.refusal(name, folder)
        if refused is not None:
            return _refused(name, refused)
        if _is_url(name):
            return self._remote(name, name, folder)
        if is_local(folder):
            return self._local(name, folder.removeprefix("file://"))
        if name.startswith(("/", "file://")):
            return self._local(name, None)
        path = quote(name) if folder.startswith(tuple(f"{scheme}://" for scheme in HTTP)) else name
        return self._remote(name, f"{folder}/{path}", folder)

    def read_all(self, names: Sequence[str], folder: str) -> list[bytes | RowError]:
        """Return `read` of each name, in order; remote files are fetched a few at a time.

        Raises:
            UnitError: as `read`; the links that are left are then not opened.
        """
        return _in_order(lambda name: self.read(name, folder), names, _is_remote(names, folder))

    def _rules(self, folder: str) -> UrlRules:
        """Return the URL rules of a shard in `folder`: one on a web server may link to files below its folder."""
        own = (folder,) if folder.startswith(tuple(f"{scheme}://" for scheme in HTTP)) else ()
        return UrlRules((*self.urls, *own), self.public_only)

    def _local(self, name: str, folder: str | None) -> bytes | RowError:
        path = name.removeprefix("file://")
        wanted = os.path.realpath(path if folder is None else Path(folder, path))
        roots = self.folders if folder is None or path.startswith("/") else (folder, *self.folders)
        root = next((real for real in map(os.path.realpath, roots) if _is_below(wanted, real)), None)
        if root is None:
            where = "input.allow_paths" if path.startswith("/") else "the shard's folder"
            return _refused(name, f"is a link that leads out of {where}; add where it leads to input.allow_paths")
        try:
            return _regular_file(name, root, wanted, self.max_bytes)
        except OSError as error:
            if error.errno == errno.ELOOP:
                return _refused(name, "is a link that changed while it was read")
            if error.errno in _ABSENT:
                return RowError("missing_image", f"{name}: {error.strerror}")
            raise UnitError(f"{wanted}: cannot be read: {type(error).__name__}: {error.strerror}") from error

    def _remote(self, name: str, uri: str, folder: str) -> bytes | RowError:
        if uri.startswith(tuple(f"{scheme}://" for scheme in HTTP)):
            from pipeline.shards.links.http_fetch import fetch  # urllib3 is not loaded where no row names a URL

            return fetch(uri, self._rules(folder), self.max_bytes)
        try:
            with open_binary(uri) as stream:
                data = stream.read(self.max_bytes + 1)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            return RowError("missing_image", f"{name}: {error.strerror or type(error).__name__}")
        except InputError as error:
            raise UnitError(f"{uri}: {error}") from error
        except Exception as error:  # every object store brings its own errors
            raise UnitError(f"{uri}: cannot be fetched: {error_line(error)}") from error
        return data if len(data) <= self.max_bytes else _too_large(name, self.max_bytes)


OWN_FOLDER = ImageLinks()
"""Allows only files below the shard's own folder."""


def folder_of(uri: str) -> str:
    """Return the folder of a shard, to which links in its rows are relative."""
    folder = uri.rpartition("/")[0]
    return folder or ("/" if uri.startswith("/") else ".")


def _regular_file(name: str, root: str, wanted: str, max_bytes: int) -> bytes | RowError:
    """Read a regular file below `root`; both paths are resolved. Symbolic links and devices are not opened."""
    *folders, last = Path(wanted).relative_to(root).parts or (".",)
    at = os.open(root, _PATH_ONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in folders:
            inner = os.open(part, _PATH_ONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
            os.close(at)
            at = inner
        if not stat.S_ISREG(os.stat(last, dir_fd=at, follow_symlinks=False).st_mode):
            return _refused(name, "is no regular file")
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        with open(os.open(last, flags, dir_fd=at), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                return _refused(name, "is no regular file")
            if status.st_size > max_bytes:
                return _too_large(name, max_bytes)
            return file.read(status.st_size)  # what grows meanwhile is bounded; files of /proc say 0
    finally:
        os.close(at)


def _is_url(name: str) -> bool:
    return "://" in name and not name.startswith("file://")


def _is_remote(names: Sequence[str], folder: str) -> bool:
    return not is_local(folder) or any(map(_is_url, names))


def _in_order(read: Callable[[str], bytes | RowError], names: Sequence[str], threaded: bool) -> list[bytes | RowError]:
    if not threaded:
        return [read(name) for name in names]
    pool = ThreadPoolExecutor(_THREADS)
    try:
        return list(pool.map(read, names))
    finally:
        pool.shutdown(cancel_futures=True)  # after a failure nothing further is begun


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _refused(name: str, why: str) -> RowError:
    return RowError("path_refused", f"{name!r} {why}")


def _too_large(name: str, max_bytes: int) -> RowError:
    return RowError("too_large", f"{name}: the file has more than {max_bytes} bytes (input.max_image_bytes)")
