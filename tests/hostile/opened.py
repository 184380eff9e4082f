"""What this process opens, as the interpreter itself tells it."""

import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.caches import cache_folder

_seen: list[str] = []
_watching = [False]
_others: set[int] = set()
OURS = "fsspecIO"
"""A thread that stays for all remote files once one was opened."""


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if not _watching[0] or threading.get_ident() in _others:
        return
    if event == "open" and isinstance(arguments[0], str | bytes):
        _seen.append(os.fsdecode(arguments[0]))
    elif event == "socket.connect":
        _seen.append(f"socket {arguments[1]}")


sys.addaudithook(_watch)  # there is no way to take one off again


@contextmanager
def opened() -> Iterator[list[str]]:
    """Give the list of paths that are opened meanwhile, and of addresses that are connected to.

    Threads that were there before, those of a Ray that other tests started, are left out.
    """
    _seen.clear()
    known = {thread.ident for thread in threading.enumerate() if thread.name == OURS} | {threading.get_ident()}
    _others.clear()
    _others.update(set(sys._current_frames()) - known)
    _watching[0] = True
    try:
        yield _seen
    finally:
        _watching[0] = False


def outside(paths: list[str], folders: list[Path]) -> list[str]:
    """Return the paths below none of the folders; those of the interpreter, its packages and our cache are left out."""
    own = (sys.prefix, sys.base_prefix, str(Path(__file__).parents[2]), str(cache_folder()))
    systems = ("/dev/null", "/usr/lib", "/usr/share/zoneinfo", "/etc/localtime")
    inside = (*own, *systems, *map(str, folders))
    found = [path for path in paths if path.startswith(("/", "socket")) and not path.startswith(inside)]
    return [path for path in found if not re.fullmatch(r"/proc/\d+/stat", path)]  # which processes are alive
