"""A local or shared folder as a store."""

import contextlib
import os
import shutil
import stat
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pipeline.errors import InputError
from pipeline.shards.output.abstract_store import Store
from pipeline.shards.output.exclusive_create import move_if_absent
from pipeline.shards.output.process_identity import ProcessIdentity
from pipeline.shards.output.storage_errors import ELSEWHERE

ABANDONED_S = 86_400.0
"""Age in seconds from which files of another machine under `_tmp/` are removed as abandoned."""
KEPT = ("driver-", "alive-")
"""Prefixes of the lease files under `_tmp/`, which drivers remove themselves."""


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

    def open(self, path: str) -> BinaryIO:
        return (self.root / path).open("rb")

    def exists(self, path: str) -> bool:
        with self.raising_storage_errors():
            return (self.root / path).exists()

    def scan(self, folder: str) -> Iterator[tuple[str, int]]:
        base = str(self.root / folder)
        prefix = len(str(self.root).rstrip("/")) + 1
        folders = [base]
        while folders:
            try:
                with os.scandir(folders.pop()) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(entry.path)
                            continue
                        with contextlib.suppress(FileNotFoundError):  # moved away meanwhile
                            status = entry.stat()
                            if stat.S_ISREG(status.st_mode):
                                yield entry.path[prefix:], status.st_size
            except (FileNotFoundError, NotADirectoryError):
                continue
            except PermissionError as error:
                raise _unusable(base, "read", error) from None

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


def _unusable(location: str, what: str, error: Exception) -> InputError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())
    return InputError(f"{location}: cannot be {what}: {type(error).__name__}: {reason}; {ELSEWHERE}")


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
