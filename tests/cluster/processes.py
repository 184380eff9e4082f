"""The processes below one of ours, read from /proc: other Rays on this machine must not be touched."""

import contextlib
import os
import signal
from pathlib import Path


def descendants(pid: int) -> dict[int, str]:
    """Return every process below `pid`, with its command line."""
    parents, titles = {}, {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError, IndexError):  # it ended while we looked
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                titles[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    below, added = {pid}, True
    while added:
        new = {child for child, parent in parents.items() if parent in below and child not in below}
        added = bool(new)
        below |= new
    return {child: titles.get(child, "") for child in below - {pid}}


def unit_actors(pid: int | None = None) -> list[int]:
    """Return the processes of unit actors below `pid`, this process if None."""
    return [child for child, title in descendants(pid or os.getpid()).items() if "UnitActor" in title]


def kill_all(pids: list[int]) -> None:
    """SIGKILL each; one that is gone already is fine."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
