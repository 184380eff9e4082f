"""One seam for every place a data set can live: a local folder, or an object store through fsspec."""

import contextlib
import errno
import os
import shutil
import tempfile
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import fsspec

from pipeline.errors import InputError

_NO_PLACE = (errno.ENOTDIR, errno.ENOENT, errno.EEXIST, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG)
"""Where no folder can be made, however often it is tried; a full disk may be emptied."""


class Store(ABC):
    """A folder of files by relative path. Every write is whole or absent, whenever the process dies."""

    uri: str

    @abstractmethod
    def read(self, path: str) -> bytes:
        """Return a file's bytes. Raises FileNotFoundError."""

    @abstractmethod
    def exists(self, path: str) -> bool: ...

    @abstractmethod
    def list(self, folder: str) -> list[str]:
        """Return the paths of all files below `folder`, relative to the store, sorted; none if it is not there."""

    @abstractmethod
    def remove(self, path: str) -> None:
        """Remove a file; does nothing if it is not there."""

    @abstractmethod
    def create(self, path: str, data: bytes) -> bool:
        """Write a file only if it is not there yet; return whether it was written."""

    @abstractmethod
    def stage(self) -> contextlib.AbstractContextManager[Path]:
        """Give an empty local folder to write files into before they are published; removed at the end."""

    @abstractmethod
    def publish(self, staged: Path, path: str) -> None:
        """Move a staged file to its place, durably, in one step."""

    def probe(self) -> None:
        """Write a file and remove it again.

        Raises:
            InputError: that cannot be done: no folder, no right, no credentials, no such bucket.
        """
        path = f"_tmp/probe-{uuid.uuid4().hex}"
        try:
            self.write(path, b"")
            self.remove(path)
        except InputError:
            raise
        except Exception as error:  # every object store brings its own errors
            raise _unusable(self.uri, "written", error) from None

    def write(self, path: str, data: bytes) -> None:
        """Write a whole file, replacing what is there."""
        with self.stage() as folder:
            staged = folder / "file"
            staged.write_bytes(data)
            self.publish(staged, path)


def open_store(uri: str) -> Store:
    """Return the store at `uri`.

    Raises:
        InputError: the protocol is unknown or its package is not installed.
    """
    if "://" not in uri:
        return LocalStore(Path(uri))
    if uri.startswith("file://"):
        return LocalStore(Path(uri.removeprefix("file://")))
    try:
        filesystem, root = fsspec.url_to_fs(uri)
    except (ImportError, ValueError) as error:
        raise InputError(f"{uri}: {error}") from None
    return ObjectStore(uri, filesystem, root)


class LocalStore(Store):
    """A local or shared folder. Staged under `_tmp/` on the same disk, fsynced, renamed."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.uri = str(self.root)

    def probe(self) -> None:
        super().probe()
        with contextlib.suppress(OSError):  # a folder that turns out to be another's stays as it was
            (self.root / "_tmp").rmdir()

    def read(self, path: str) -> bytes:
        try:
            return (self.root / path).read_bytes()
        except PermissionError as error:
            raise _unusable(str(self.root / path), "read", error) from None
        except NotADirectoryError as error:  # the root is a file, or lies below one
            raise FileNotFoundError(*error.args) from None

    def exists(self, path: str) -> bool:
        return (self.root / path).exists()

    def list(self, folder: str) -> list[str]:
        base = self.root / folder
        if not base.is_dir():
            return []
        try:
            return sorted(file.relative_to(self.root).as_posix() for file in base.rglob("*") if file.is_file())
        except PermissionError as error:
            raise _unusable(str(base), "read", error) from None

    def remove(self, path: str) -> None:
        (self.root / path).unlink(missing_ok=True)

    def create(self, path: str, data: bytes) -> bool:
        target = self.root / path
        with self.stage() as folder:
            staged = folder / "file"
            staged.write_bytes(data)
            _fsync(staged)
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(staged, target)  # unlike rename, fails if the target is there
            except FileExistsError:
                return False
            _fsync(target.parent)
            return True

    @contextlib.contextmanager
    def stage(self) -> Iterator[Path]:
        folder = self.root / "_tmp" / uuid.uuid4().hex
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            if error.errno in _NO_PLACE:
                raise _unusable(self.uri, "written", error) from None
            raise
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def publish(self, staged: Path, path: str) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        _fsync(staged)
        staged.replace(target)
        _fsync(target.parent)


class ObjectStore(Store):
    """A bucket behind fsspec. One PUT is atomic; `create` is a conditional PUT."""

    def __init__(self, uri: str, filesystem: fsspec.AbstractFileSystem, root: str) -> None:
        self.uri = uri.rstrip("/")
        self._filesystem = filesystem
        self._root = root.rstrip("/")
        filesystem.invalidate_cache()  # other processes write there too

    def _full(self, path: str) -> str:
        return f"{self._root}/{path}"

    def read(self, path: str) -> bytes:
        data: bytes = self._filesystem.cat_file(self._full(path))
        return data

    def exists(self, path: str) -> bool:
        return bool(self._filesystem.exists(self._full(path)))

    def list(self, folder: str) -> list[str]:
        self._filesystem.invalidate_cache()
        try:
            found = self._filesystem.find(self._full(folder))
        except FileNotFoundError:
            return []
        prefix = self._root.lstrip("/") + "/"
        return sorted(name.lstrip("/").removeprefix(prefix) for name in found)

    def remove(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._filesystem.rm_file(self._full(path))

    def create(self, path: str, data: bytes) -> bool:
        try:
            self._filesystem.pipe_file(self._full(path), data, mode="create")
        except FileExistsError:
            return False
        return True

    @contextlib.contextmanager
    def stage(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="palimpsest-") as folder:
            yield Path(folder)

    def publish(self, staged: Path, path: str) -> None:
        self._filesystem.put_file(str(staged), self._full(path))


def _unusable(place: str, what: str, error: Exception) -> InputError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())
    return InputError(f"{place}: cannot be {what}: {type(error).__name__}: {reason}; choose another place")


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
