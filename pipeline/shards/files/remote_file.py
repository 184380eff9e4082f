"""A remote file for readers of Parquet, which jump between columns: few requests, and hardly a byte fetched twice."""

import io
from typing import Any, Final

_KEPT: Final = 4
"""Stretches that are kept: of an image column, of those beside it, and of what comes next."""


class RemoteFile(io.RawIOBase):
    """An open file of fsspec, without a cache of its own, for reading; a request brings `ahead` bytes or more.

    Each request begins where the bytes that are kept end, so columns that lie side by side come together. Not
    thread-safe.

    Attributes:
        pinned: whether every further read fails once the file is another, as s3fs sees to by its ETag.
    """

    def __init__(self, stream: Any, ahead: int) -> None:
        self._stream = stream
        self._ahead = ahead
        self._kept: list[tuple[int, bytes]] = []  # (first byte, bytes), the last used at the end
        self._at = 0
        self._size = int(stream.size)
        self.pinned = "IfMatch" in getattr(stream, "read_kw", {})

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        return self.read(-1)

    def read(self, size: int | None = -1, /) -> bytes:
        end = self._size if size is None or size < 0 else min(self._at + size, self._size)
        parts = []
        while self._at < end:
            start, data = self._holding(self._at, end)
            parts.append(data[self._at - start : end - start])
            self._at += len(parts[-1])
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        self._kept.clear()
        self._stream.close()
        super().close()

    def _holding(self, place: int, end: int) -> tuple[int, bytes]:
        """Return bytes that hold the one at `place`, with the place of their first; fetch them if none are kept."""
        for index, (start, data) in enumerate(self._kept):
            if start <= place < start + len(data):
                self._kept.append(self._kept.pop(index))
                return self._kept[-1]
        self._stream.seek(place)
        data = bytes(self._stream.read(min(max(end - place, self._ahead), self._size - place)))
        if not data:
            raise OSError(f"nothing came of byte {place} of {self._size}")
        self._kept = [*self._kept[1 - _KEPT :], (place, data)]
        return self._kept[-1]
