"""The watermark key: reading it, its public id, keys derived from it, and writing a new one."""

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import RecipeError

KEY_VARIABLE = "PALIMPSEST_KEY"
_set_aside: str | None = None
"""Value of PALIMPSEST_KEY while it is out of the environment."""
MIN_BYTES = 16
NEW_KEY_BYTES = 32
MAX_BYTES = 65_536


def read_key(path: str | os.PathLike[str] | None = None) -> bytes | None:
    """Return the key from the file `path`, else from the variable PALIMPSEST_KEY, else None.

    A file is taken byte for byte, so that any file can be a key; the variable as UTF-8. The key is never part of a
    message.

    Raises:
        RecipeError: the file cannot be read, or the key has under 16 bytes or (a file taken by mistake) over 64 KiB.
    """
    if path is None:
        value = os.environ.get(KEY_VARIABLE, _set_aside)
        return None if value is None else _checked_length(os.fsencode(value), KEY_VARIABLE)
    try:
        with Path(path).expanduser().open("rb") as file:
            key = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise RecipeError(f"key file {path}: cannot be read ({error.strerror or type(error).__name__})") from None
    return _checked_length(key, f"key file {path}")


@contextmanager
def key_out_of_environment() -> Iterator[None]:
    """Keep PALIMPSEST_KEY out of the environment of processes that are started in this context; `read_key` has it."""
    global _set_aside
    value = os.environ.pop(KEY_VARIABLE, None)
    _set_aside = _set_aside if value is None else value
    try:
        yield
    finally:
        if value is not None:
            os.environ[KEY_VARIABLE] = value
            _set_aside = None


def chosen_key(key: bytes | None) -> bytes | None:
    """Return the key that a program gives, else that of the variable PALIMPSEST_KEY, else None.

    Raises:
        RecipeError: it has under 16 bytes or over 64 KiB.
        TypeError: it is no bytes: a path, for instance, which `read_key` reads.
    """
    if key is None:
        return read_key()
    given: object = key
    if not isinstance(given, bytes):
        raise TypeError(f"key: needs the key's bytes, as read_key(FILE) returns them, not {type(given).__name__}")
    return _checked_length(key, "key")


def key_id(key: bytes) -> str:
    """Return the public id of `key`: 16 hex digits of a keyed hash of a constant, which does not reveal the key."""
    return hmac.new(key, b"palimpsest key id", hashlib.sha256).hexdigest()[:16]


def derived_key(key: bytes, purpose: str) -> bytes:
    """Return the 32-byte key derived from `key` for one purpose; keys of different purposes are independent."""
    return hmac.new(key, b"palimpsest derived key/" + purpose.encode(), hashlib.sha256).digest()


def new_key_file(path: str | Path) -> Path:
    """Write 32 fresh random bytes, as 64 hex digits and no line end, to the new file `path`, mode 0600.

    Raises:
        RecipeError: the file is there already (a key is never overwritten) or cannot be made.
    """
    place = Path(path)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_hex(NEW_KEY_BYTES).encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise RecipeError(f"key file {place}: cannot be made ({error.strerror or type(error).__name__})") from None
    return place


def _checked_length(key: bytes, origin: str) -> bytes:
    if not MIN_BYTES <= len(key) <= MAX_BYTES:
        raise RecipeError(
            f"{origin}: a key has {MIN_BYTES} to {MAX_BYTES} bytes, this one has "
            f"{'more' if len(key) > MAX_BYTES else len(key)}"
        )
    return key
