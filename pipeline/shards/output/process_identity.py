"""The identity of a process, from which another process can tell whether it is still running."""

import contextlib
import functools
import hashlib
import os
import socket
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ProcessIdentity:
    """A process. `machine` identifies host, boot and process namespace; `born` tells it from a later one of its pid."""

    host: str
    machine: str
    pid: int
    born: str

    @classmethod
    def here(cls) -> "ProcessIdentity":
        """Return this process."""
        return cls(socket.gethostname(), _machine(), os.getpid(), _born(os.getpid()) or "0")

    @classmethod
    def parse(cls, name: str) -> "ProcessIdentity | None":
        """Return the process that a file name begins with, as `prefix` writes it; None if it begins with none."""
        machine, *parts = name.split("-")[:4]
        if len(parts) != 3 or not all(part.isdecimal() for part in parts[:2]):
            return None
        return cls("", machine, int(parts[0]), parts[1])

    @property
    def prefix(self) -> str:
        return f"{self.machine}-{self.pid}-{self.born}-"

    def alive(self) -> bool | None:
        """Return whether the process still runs; None if it is on another machine."""
        if self.machine != _machine():
            return None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except OSError:  # somebody else's
            return True
        born = _born(self.pid)
        return born == self.born if born is not None or Path("/proc/self/stat").exists() else True


@functools.cache
def _machine() -> str:
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):  # not every system has them
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _born(pid: int) -> str | None:
    """Return when a process started, in clock ticks since boot; None if it has ended or that cannot be read."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]
