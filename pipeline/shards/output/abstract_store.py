"""What every store of files can do, whatever it is built on."""

import contextlib
import os
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from pipeline.errors import InputError, StorageError
from pipeline.shards.output.storage_errors import ELSEWHERE, raising_storage_errors

PROBE_BYTES = 1 << 20
"""Size of the file that `probe` writes, so that a nearly full disk is found before the first unit."""


class Store(ABC):
    """Files by relative path. Every write is atomic: after a crash a file is complete or absent."""

    uri: str

    @abstractmethod
    def read(self, path: str) -> bytes:
        """Return a file's bytes. Raises FileNotFoundError."""

    @abstractmethod
    def open(self, path: str) -> BinaryIO:
        """Open a file for reading at any place. Raises FileNotFoundError."""

    @abstractmethod
    def exists(self, path: str) -> bool: ...

    @abstractmethod
    def scan(self, folder: str) -> Iterator[tuple[str, int]]:
        """Yield path (relative to the store) and size of every file below `folder`, in any order; none if not there.

        At most a page, or a folder handle a level, is held in memory: for millions of files. Files that come or go
        meanwhile may be in it or not.
        """

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the size of every file below `folder`, by path relative to the store, sorted; empty if not there."""
        return dict(sorted(self.scan(folder)))

    def list(self, folder: str) -> list[str]:
        """Return the paths of all files below `folder`, relative to the store, sorted; empty if it is not there."""
        return [*self.sizes(folder)]

    @abstractmethod
    def size(self, path: str) -> int | None:
        """Return a file's size in bytes; None if it is not there."""

    @abstractmethod
    def remove(self, path: str) -> None:
        """Remove a file; does nothing if it is not there."""

    def remove_many(self, paths: Iterable[str]) -> None:
        """Remove files, in bulk where the store can; does nothing for those that are not there.

        Raises:
            StorageError: some could not be removed; any of the others may be.
        """
        for path in paths:
            self.remove(path)

    @abstractmethod
    def move(self, path: str, target: str) -> None:
        """Rename a file, replacing what is at `target`. Raises FileNotFoundError."""

    @abstractmethod
    def create(self, path: str, data: bytes) -> bool:
        """Create a file exclusively; return False, and write nothing, if it exists.

        An object store returns True as well where the file holds these very bytes: it may have created it and its
        answer been lost. Whoever must know to be the first writes bytes of its own.
        """

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
            text = reason if isinstance(error, StorageError) else f"{type(error).__name__}: {reason}; {ELSEWHERE}"
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
                f"written; {ELSEWHERE}"
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
