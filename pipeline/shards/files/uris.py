"""URIs: local paths, and every protocol that fsspec opens."""

from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import fsspec

from pipeline.errors import InputError
from pipeline.messages import error_line
from pipeline.shards.files.remote_file import RemoteFile

SCAN_AHEAD_BYTES: Final = 1 << 18
"""For a reader that wants a few small columns among large ones."""
ROWS_AHEAD_BYTES: Final = 1 << 22
"""For a reader that wants all columns of consecutive rows."""
_EXTRAS: Final = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}


def absolute(uri: str, base: str) -> str:
    """Return `uri` as an absolute local path, or unchanged where it names a protocol other than `file`.

    A relative local path is relative to `base`, a folder or a URI of one. `~` is the home folder.
    """
    if "://" in uri and not uri.startswith("file://"):
        return uri
    path = Path(uri.removeprefix("file://")).expanduser()
    if "://" in base and not base.startswith("file://") and not path.is_absolute():
        return f"{base}{uri}" if base.endswith("/") else f"{base}/{uri}"
    return str(Path(base.removeprefix("file://"), path).absolute())


def filesystem(uri: str) -> tuple[Any, str]:
    """Return the fsspec file system that `uri` is on, and the path on it.

    Raises:
        InputError: an unknown protocol, a missing package for it, or a chain of protocols (`zip://..::s3://..`).
    """
    if "::" in uri and "://" in uri:
        raise InputError(f"{uri}: chained protocols are not supported; unpack the archive, or mount it")
    protocol = uri.partition("://")[0]
    try:
        fs, path = fsspec.core.url_to_fs(uri)
    except ImportError as error:
        extra = _EXTRAS.get(protocol)
        remedy = f"pip install palimpsest[{extra}]" if extra else error_line(error)
        raise InputError(f"{uri}: the package that opens {protocol}:// is not installed; {remedy}") from error
    except Exception as error:  # some ask their server at once, some need more than a URI
        raise InputError(f"{uri}: cannot be opened: {error_line(error)}") from error
    return fs, str(path)


def open_binary(uri: str, ahead: int = SCAN_AHEAD_BYTES) -> BinaryIO:
    """Open a local path or a URI for reading bytes, seekable.

    Each request to a remote file brings at least `ahead` bytes (`RemoteFile`).

    Raises:
        InputError: its protocol cannot be opened (see `filesystem`).
        OSError: the file is missing or cannot be read.
    """
    if is_local(uri):
        return open(uri.removeprefix("file://"), "rb")
    fs, path = filesystem(uri)
    stream = fs.open(path, "rb", cache_type="none")
    return cast(BinaryIO, stream if getattr(stream, "size", None) is None else RemoteFile(stream, ahead))


def cause_of(error: Exception) -> BaseException:
    """Return the cause of an error: fsspec says "not found" even if an HTTP server is down, busy or denies access."""
    cause = error.__cause__
    hidden = isinstance(error, FileNotFoundError) and type(cause).__module__.startswith(("aiohttp", "asyncio"))
    return cause if cause is not None and hidden and getattr(cause, "status", 0) not in (404, 410) else error


def is_local(uri: str) -> bool:
    """Return whether `uri` is a path of this machine."""
    return "://" not in uri or uri.startswith("file://")
