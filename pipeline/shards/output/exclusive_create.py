"""Creating a file only if none has its name, in one atomic step, on every file system that can do it."""

import contextlib
import ctypes
import errno
import os
import sys
from pathlib import Path

_NO_LINKS = (errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.EMLINK)
"""Error numbers of file systems without hard links: exFAT, SMB, many FUSE mounts."""
_AT_FDCWD = -100
_RENAME_NOREPLACE = 1  # Linux
_RENAME_EXCL = 4  # macOS


def move_if_absent(staged: Path, target: Path) -> None:
    """Give `staged` the name `target` on the same file system, unless a file has it; `staged` may stay as well.

    By a hard link, which fails if the name is taken; without hard links by a rename that never replaces.

    Raises:
        FileExistsError: the name is taken.
        OSError: with `errno.EOPNOTSUPP`, where the file system has neither.
    """
    try:
        os.link(staged, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    else:
        return
    code = _rename(os.fsencode(staged), os.fsencode(target))
    if code in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP):
        why = "neither hard links nor a rename that never replaces, and a commit needs one of them"
        raise OSError(errno.EOPNOTSUPP, why, str(target))
    if code:
        raise OSError(code, os.strerror(code), str(target))


def _rename(source: bytes, target: bytes) -> int:
    """Rename without replacing; return 0 or the error number, ENOSYS if the C library has no such call."""
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "darwin":
            failed = library.renamex_np(source, target, ctypes.c_uint(_RENAME_EXCL))
        else:
            flags = ctypes.c_uint(_RENAME_NOREPLACE)
            failed = library.renameat2(_AT_FDCWD, source, _AT_FDCWD, target, flags)
        return ctypes.get_errno() if failed else 0
    return errno.ENOSYS
