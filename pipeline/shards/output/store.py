"""Where a data set is stored: a local folder, or an object store through fsspec, behind one interface."""

import contextlib
import os
import shutil
import stat
import tempfile
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import fsspec

from pipeline.errors import InputError, StorageError
from pipeline.messages import error_line
from pipeline.shards.output.exclusive_create import move_if_absent
from pipeline.shards.output.process_identity import ProcessIdentity
from pipeline.shards.output.storage_errors import raising_storage_errors, storage_error

T = TypeVar("T")

PROBE_BYTES = 1 << 20
"""Size of the file that `probe` writes, so that a nearly full disk is found before the first unit."""
PAUSES_S = (1.0, 3.0)
"""Seconds to wait before each further request to an object store, after the retries of its own library."""
_ELSEWHERE = "choose another place"

ABANDONED_S = 86_400.0
"""Age in seconds from which files of another machine under `_tmp/` are removed as abandoned."""
KEPT = ("driver-", "alive-")
"""Prefixes of the lease files under `_tmp/`, which drivers remove themselves."""


class Store(ABC):
    """Files by relative path. Every write is atomic: after a crash a file is complete or absent."""

    uri: str

    @abstractmethod
    def read(self, path: str) -> bytes:
        """Return a file's bytes. Raises FileNotFoundError."""

    @abstractmethod
    def exists(self, path: str) -> bool: ...

    @abstractmethod
    def sizes(self, folder: str) -> dict[str, int]:
        """Return the size of every file below `folder`, by path relative to the store, sorted; empty if not there."""

    def list(self, folder: str) -> list[str]:
        """Return the paths of all files below `folder`, relative to the store, sorted; empty if it is not there."""
        return [*self.sizes(folder)]

    @abstractmethod
    def size(self, path: str) -> int | None:
        """Return a file's size in bytes; None if it is not there."""

    @abstractmethod
    def remove(self, path: str) -> None:
        """Remove a file; does nothing if it is not there."""

    @abstractmethod
    def move(self, path: str, target: str) -> None:
        """Rename a file, replacing what is at `target`. Raises FileNotFoundError."""

    @abstractmethod
    def create(self, path: str, data: bytes) -> bool:
        """Create a file exclusively; return False, and write nothing, if it exists."""

    @abstractmethod
    def stage(self) -> contextlib.AbstractContextManager[Path]:
        """Give an empty local folder for files that are to be published; it is removed at the end."""

    @abstractmethod
    def publish(self, staged: Path, path: str) -> None:
        """Move a staged file to `path`, atomically and durably (fsync, rename)."""

    def raising_storage_errors(self) -> contextlib.AbstractContextManager[None]:
        """Turn errors while a staged file is written, such as a full disk, into StorageError."""
        return raising_storage_errors(self.uri)

    def probe(self) -> None:
        """Try with a file of 1 MiB what commits need: write, replace, create exclusively, read, list, remove.

        Raises:
            InputError: one of them fails: no folder, permission, space, credentials or bucket; or a file system or
                object store that overwrites an existing file where exclusive creation is asked for.
        """
        folder = f"_tmp/probe-{uuid.uuid4().hex}"
        whole, once = f"{folder}/whole", f"{folder}/once"
        data, written = os.urandom(PROBE_BYTES), False
        try:
            self.write(whole, b"")
            written = True
            self.write(whole, data)
            created = self.create(once, b"first"), self.create(once, b"second")
            kept = (self.read(whole), self.read(once)) == (data, b"first")
            listed = self.list(folder) == [once, whole] and self.exists(once)
            self.remove(whole)
            self.remove(once)
            emptied = not self.list(folder)
        except Exception as error:  # every object store brings its own errors
            for path in (whole, once) if written else ():  # a store that does not answer takes seconds to say so
                with contextlib.suppress(Exception):
                    self.remove(path)
            reason = str(error).removeprefix(f"{self.uri}: ")
            text = reason if isinstance(error, StorageError) else f"{type(error).__name__}: {reason}; {_ELSEWHERE}"
            raise InputError(f"{self.uri}: cannot be written: {text}") from None
        if created != (True, False):
            raise InputError(
                f"{self.uri}: cannot be written safely: it writes over a file that it is told to create only where "
                "there is none, so two workers could commit one unit; use a folder, or a store with conditional writes "
                "(s3:// of AWS, gs://)"
            )
        if not (kept and listed and emptied):
            raise InputError(
                f"{self.uri}: cannot be written safely: it does not give back, list or remove at once what was "
                f"written; {_ELSEWHERE}"
            )

    @abstractmethod
    def tidy(self) -> None:
        """Remove files under `_tmp/` of processes that have ended; those of processes that may still run stay."""

    def write(self, path: str, data: bytes) -> None:
        """Write a whole file, replacing what is there."""
        with self.stage() as folder:
            staged = folder / "file"
            with self.raising_storage_errors():
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
    except Exception as error:  # some ask their server at once, some need more than a URI
        raise InputError(f"{uri}: cannot be opened: {error_line(error)}; {_ELSEWHERE}") from None
    return ObjectStore(uri, filesystem, root)


class LocalStore(Store):
    """A local or shared folder. Files are written under `_tmp/` on the same disk, fsynced, then renamed."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.uri = str(self.root)

    def probe(self) -> None:
        try:
            super().probe()
        finally:
            with contextlib.suppress(OSError):  # a folder that turns out to be another's stays as it was
                for folder in (self.root / "_tmp").glob("probe-*"):
                    folder.rmdir()
                (self.root / "_tmp").rmdir()

    def read(self, path: str) -> bytes:
        location = self.root / path
        try:
            if not stat.S_ISREG(mode := location.stat().st_mode) and not stat.S_ISDIR(mode):
                raise InputError(f"{location}: a pipe, a socket or a device, not a file; take it away")
            return location.read_bytes()
        except PermissionError as error:
            raise _unusable(str(location), "read", error) from None
        except (NotADirectoryError, IsADirectoryError) as error:  # the root is a file, or lies below one
            raise FileNotFoundError(*error.args) from None

    def exists(self, path: str) -> bool:
        with self.raising_storage_errors():
            return (self.root / path).exists()

    def sizes(self, folder: str) -> dict[str, int]:
        base = self.root / folder
        if not base.is_dir():
            return {}
        found = {}
        try:
            for file in base.rglob("*"):
                with contextlib.suppress(FileNotFoundError):  # moved away meanwhile
                    status = file.stat()
                    if stat.S_ISREG(status.st_mode):
                        found[file.relative_to(self.root).as_posix()] = status.st_size
        except PermissionError as error:
            raise _unusable(str(base), "read", error) from None
        return dict(sorted(found.items()))

    def size(self, path: str) -> int | None:
        with self.raising_storage_errors():
            try:
                return (self.root / path).stat().st_size
            except (FileNotFoundError, NotADirectoryError):
                return None

    def move(self, path: str, target: str) -> None:
        location = self.root / target
        with self.raising_storage_errors():
            location.parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).replace(location)
        _fsync(location.parent)

    def tidy(self) -> None:
        folder = self.root / "_tmp"
        for path in [*folder.iterdir()] if folder.is_dir() else []:
            if path.name.startswith(KEPT):
                continue
            owner = ProcessIdentity.parse(path.name)
            alive = None if owner is None else owner.alive()
            if alive is False or (alive is None and _age_s(path) > ABANDONED_S):
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)

    def remove(self, path: str) -> None:
        with self.raising_storage_errors():
            (self.root / path).unlink(missing_ok=True)

    def create(self, path: str, data: bytes) -> bool:
        target = self.root / path
        with self.stage() as folder, self.raising_storage_errors():
            staged = folder / "file"
            staged.write_bytes(data)
            _fsync(staged)
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                move_if_absent(staged, target)
            except FileExistsError:
                return False
            _fsync(target.parent)
            return True

    @contextlib.contextmanager
    def stage(self) -> Iterator[Path]:
        folder = self.root / "_tmp" / f"{ProcessIdentity.here().prefix}{uuid.uuid4().hex}"
        with self.raising_storage_errors():
            folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def publish(self, staged: Path, path: str) -> None:
        target = self.root / path
        with self.raising_storage_errors():
            target.parent.mkdir(parents=True, exist_ok=True)
            _fsync(staged)
            staged.replace(target)
            _fsync(target.parent)


class ObjectStore(Store):
    """A bucket behind fsspec. A PUT is atomic; `create` is a conditional PUT."""

    def __init__(self, uri: str, filesystem: fsspec.AbstractFileSystem, root: str) -> None:
        self.uri = uri.rstrip("/")
        self._filesystem = filesystem
        self._root = root.rstrip("/")
        filesystem.invalidate_cache()  # other processes write there too

    def _full(self, path: str) -> str:
        return f"{self._root}/{path}"

    def raising_storage_errors(self) -> contextlib.AbstractContextManager[None]:
        return raising_storage_errors(tempfile.gettempdir())

    def _ask(self, call: Callable[[], T]) -> T:
        """Call the store, again after PAUSES_S where it does not answer, and return the result.

        Raises:
            StorageError: the store refuses, or still does not answer.
        """
        for pause in (*PAUSES_S, None):
            try:
                return call()
            except (FileNotFoundError, FileExistsError):
                raise
            except Exception as error:  # every object store brings its own errors
                if pause is None or isinstance(error, PermissionError | ValueError | TypeError | NotImplementedError):
                    raise storage_error(self.uri, error) from error
                time.sleep(pause)
        raise AssertionError("the last pause is None")

    def _put(self, call: Callable[[], T]) -> T:
        try:
            return self._ask(call)
        except FileNotFoundError as error:  # a file that is put there can miss nothing but its bucket
            raise storage_error(self.uri, error) from error

    def read(self, path: str) -> bytes:
        return self._ask(lambda: bytes(self._filesystem.cat_file(self._full(path))))

    def exists(self, path: str) -> bool:
        return self._ask(lambda: bool(self._filesystem.exists(self._full(path))))

    def sizes(self, folder: str) -> dict[str, int]:
        self._filesystem.invalidate_cache()
        try:
            found = self._ask(lambda: self._filesystem.find(self._full(folder), detail=True))
        except FileNotFoundError:
            return {}
        prefix = self._root.lstrip("/") + "/"
        return {name.lstrip("/").removeprefix(prefix): int(found[name].get("size") or 0) for name in sorted(found)}

    def size(self, path: str) -> int | None:
        self._filesystem.invalidate_cache(self._full(path))
        try:
            return self._ask(lambda: int(self._filesystem.size(self._full(path))))
        except FileNotFoundError:
            return None

    def tidy(self) -> None:
        """Do nothing: no file is staged in a bucket."""

    def move(self, path: str, target: str) -> None:
        self._ask(lambda: self._filesystem.cp_file(self._full(path), self._full(target)))
        self.remove(path)

    def remove(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._ask(lambda: self._filesystem.rm_file(self._full(path)))

    def create(self, path: str, data: bytes) -> bool:
        try:
            self._put(lambda: self._filesystem.pipe_file(self._full(path), data, mode="create"))
        except FileExistsError:
            return False
        return True

    @contextlib.contextmanager
    def stage(self) -> Iterator[Path]:
        with self.raising_storage_errors():
            folder = tempfile.TemporaryDirectory(prefix="palimpsest-")
        with folder as name:
            yield Path(name)

    def publish(self, staged: Path, path: str) -> None:
        self._put(lambda: self._filesystem.put_file(str(staged), self._full(path)))


def _unusable(location: str, what: str, error: Exception) -> InputError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())
    return InputError(f"{location}: cannot be {what}: {type(error).__name__}: {reason}; {_ELSEWHERE}")


def _age_s(path: Path) -> float:
    """Return the seconds since the last write to a file, or to anything in a folder."""
    newest = 0.0
    for each in (path, *path.rglob("*")) if path.is_dir() else (path,):
        with contextlib.suppress(FileNotFoundError):
            newest = max(newest, each.stat().st_mtime)
    return time.time() - newest


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
