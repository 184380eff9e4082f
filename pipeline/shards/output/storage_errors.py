"""Errors of the storage (disk full, mount lost, no permission), not of a unit, each with its remedy."""

import contextlib
import errno
from collections.abc import Iterator

from pipeline.errors import StorageError

ELSEWHERE = "choose another place"

_FULL = "free some space there"
_RIGHT = "give this user the right to write there"
_BLOCKED = "something else stands where a folder is needed; move it away"
_LOST = "the disk or mount is at fault; mend it"
REMEDIES = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: f"{_FULL}, or have the quota raised",
    errno.EROFS: "it is mounted read-only; mount it for writing",
    errno.EACCES: _RIGHT,
    errno.EPERM: _RIGHT,
    errno.EFBIG: "it takes no larger file; raise that bound (ulimit -f, the file system's own)",
    errno.ENAMETOOLONG: "it takes no longer name; choose a shorter one",
    errno.EOPNOTSUPP: "choose a folder on another disk, or s3:// or gs://",
    errno.ENOENT: "the folder cannot be made, or was removed; see that it stays",
    errno.ENOTDIR: _BLOCKED,
    errno.EISDIR: _BLOCKED,
    errno.EEXIST: _BLOCKED,
    errno.EIO: _LOST,
    errno.ENODEV: _LOST,
    errno.ENXIO: _LOST,
    errno.ESTALE: _LOST,
    errno.ENOTCONN: _LOST,
    errno.EHOSTDOWN: _LOST,
    errno.ETIMEDOUT: _LOST,
}
"""What the user can do, by the error number of the operating system."""


@contextlib.contextmanager
def raising_storage_errors(location: str) -> Iterator[None]:
    """Turn errors of the operating system within the block into a StorageError that names `location`.

    Raises:
        StorageError: an OSError with a number in REMEDIES was raised; other errors pass unchanged.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in REMEDIES:
            raise
        raise storage_error(location, error) from error


def storage_error(location: str, error: Exception) -> StorageError:
    """Return the StorageError for an error that occurred at `location`: what happened, and the remedy."""
    if isinstance(error, OSError) and error.strerror:
        said, helps = f"{type(error).__name__}: {error.strerror}", REMEDIES.get(error.errno or 0)
    else:
        said, helps = f"{type(error).__name__}: {error}", None
    helps = helps or "see that it can be reached"
    return StorageError(f"{location}: {said}; {helps}{'' if 'choose' in helps else ', or choose another place'}")
