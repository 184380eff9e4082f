"""A bucket as a store, through fsspec."""

import contextlib
import functools
import itertools
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, TypeVar, cast

import fsspec

from pipeline.shards.output import s3_requests
from pipeline.shards.output.abstract_store import Store
from pipeline.shards.output.storage_errors import raising_storage_errors, storage_error

T = TypeVar("T")

PAUSES_S = (1.0, 3.0)
"""Seconds to wait before each further request to an object store, after the retries of its own library."""


class ObjectStore(Store):
    """A bucket behind fsspec. A PUT is atomic; `create` is a conditional PUT."""

    def __init__(self, uri: str, filesystem: fsspec.AbstractFileSystem, root: str) -> None:
        self.uri = uri.rstrip("/")
        self._filesystem = filesystem
        self._root = root.rstrip("/")
        self._is_s3 = s3_requests.is_s3(filesystem)
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
        one_request = {"max_concurrency": 1} if self._is_s3 else {}  # else s3fs asks for the size first
        return self._ask(lambda: bytes(self._filesystem.cat_file(self._full(path), **one_request)))

    def open(self, path: str) -> BinaryIO:
        # Parquet readers jump between columns: a read-ahead cache would fetch most bytes several times over.
        return self._ask(lambda: cast(BinaryIO, self._filesystem.open(self._full(path), "rb", cache_type="none")))

    def exists(self, path: str) -> bool:
        if self._is_s3:
            return self.size(path) is not None
        self._filesystem.invalidate_cache(self._full(path))
        return self._ask(lambda: bool(self._filesystem.exists(self._full(path))))

    def scan(self, folder: str) -> Iterator[tuple[str, int]]:
        if self._is_s3:
            yield from self._scan_pages(folder)
            return
        self._filesystem.invalidate_cache()
        try:
            found = self._ask(lambda: self._filesystem.find(self._full(folder), detail=True))
        except FileNotFoundError:
            return
        root, below = self._root.lstrip("/") + "/", self._full(folder).strip("/") + "/"
        for name, entry in found.items():
            if (path := name.lstrip("/")).startswith(below):  # some file systems find a file below itself
                yield path.removeprefix(root), int(entry.get("size") or 0)

    def _scan_pages(self, folder: str) -> Iterator[tuple[str, int]]:
        """Yield as `scan` does from S3, a page of at most 1,000 keys at a time."""
        token = None
        while True:
            page = self._ask(functools.partial(s3_requests.list_page, self._filesystem, self._full(folder), token))
            for name, size in page.files:
                yield name.removeprefix(f"{self._root}/"), size
            token = page.next_token
            if token is None:
                return

    def size(self, path: str) -> int | None:
        self._filesystem.invalidate_cache(self._full(path))
        size = functools.partial(s3_requests.size, self._filesystem) if self._is_s3 else self._filesystem.size
        try:
            return self._ask(lambda: int(size(self._full(path))))
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

    def remove_many(self, paths: Iterable[str]) -> None:
        if not self._is_s3:
            super().remove_many(paths)
            return
        waiting = iter(paths)
        while batch := [self._full(path) for path in itertools.islice(waiting, s3_requests.MAX_KEYS)]:
            self._ask(functools.partial(s3_requests.delete, self._filesystem, batch))

    def create(self, path: str, data: bytes) -> bool:
        try:
            self._put(lambda: self._create(path, data))
        except FileExistsError:
            try:
                return self.read(path) == data  # ours, where an answer was lost and the request sent again
            except FileNotFoundError:  # removed meanwhile
                return False
        return True

    def _create(self, path: str, data: bytes) -> None:
        try:
            self._filesystem.pipe_file(self._full(path), data, mode="create")
        except Exception as error:
            if s3_requests.says_exists(error):
                raise FileExistsError(path) from error
            raise

    @contextlib.contextmanager
    def stage(self) -> Iterator[Path]:
        with self.raising_storage_errors():
            folder = tempfile.TemporaryDirectory(prefix="palimpsest-")
        with folder as name:
            yield Path(name)

    def publish(self, staged: Path, path: str) -> None:
        self._put(lambda: self._filesystem.put_file(str(staged), self._full(path)))
