"""Where a secret can be found: in files below a folder, and in what /proc tells of processes."""

import base64
from collections.abc import Iterable
from pathlib import Path

from tests.cluster.processes import descendants

CHUNK = 1 << 24


def forms(secret: bytes) -> tuple[bytes, ...]:
    """Return the ways in which a secret may be written down."""
    return secret, secret.hex().encode(), base64.b64encode(secret), secret.decode().encode("utf-16-le")


def files_with(secret: bytes, *folders: Path) -> list[str]:
    """Return the regular files below some folders that hold a secret."""
    found, read = [], 0
    for path in (path for folder in folders for path in folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            read += 1
            if any(form in data for data in _chunks(path) for form in forms(secret)):
                found.append(str(path))
    assert read, "nothing was searched"
    return found


def _chunks(path: Path) -> Iterable[bytes]:
    """Yield the content in pieces that overlap, so that a secret is whole in one of them."""
    try:
        with path.open("rb") as file:
            before = b""
            while data := file.read(CHUNK):
                yield before + data
                before = data[-4096:]
    except OSError:  # removed while we looked
        return


class Processes:
    """What /proc tells of every process that was ever seen below one of ours."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.titles: dict[int, str] = {}
        self._told: dict[int, bytes] = {}

    def look(self) -> None:
        """Read arguments and environment of all that run now."""
        for child, title in descendants(self._pid).items():
            try:
                environment = Path(f"/proc/{child}/environ").read_bytes()
                arguments = Path(f"/proc/{child}/cmdline").read_bytes()
            except OSError:  # it ended
                continue
            self.titles[child] = title
            self._told[child] = self._told.get(child, b"") + environment + b"\0" + arguments

    def names_of(self, secret: bytes) -> list[str]:
        """Return those that were told the secret."""
        told = [child for child, data in self._told.items() if any(form in data for form in forms(secret))]
        return [f"{child} {self.titles[child]}" for child in told]

    def seen(self, *parts: str) -> bool:
        """Whether for each part a process with it in its command line was seen."""
        return all(any(part in title for title in self.titles.values()) for part in parts)


def environment_of(pid: int) -> bytes:
    """Return the environment that a process was started with."""
    return Path(f"/proc/{pid}/environ").read_bytes()
