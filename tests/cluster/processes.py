"""The processes below one of ours, read from /proc, so that tests end no other Ray of the machine."""

import contextlib
import ipaddress
import os
import signal
from collections.abc import Collection
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


def listening(pids: Collection[int]) -> set[tuple[str, int]]:
    """Return the TCP addresses and ports that processes of ours listen on, IPv4 ones in their own form."""
    sockets = {_link(path) for pid in pids for path in Path(f"/proc/{pid}/fd").glob("*")}
    found = set()
    for family in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{family}").read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == "0A" and f"socket:[{inode}]" in sockets:
                address, port = local.split(":")
                words = [bytes.fromhex(address[at : at + 8])[::-1] for at in range(0, len(address), 8)]
                host = ipaddress.ip_address(b"".join(words))
                mapped = host.ipv4_mapped if isinstance(host, ipaddress.IPv6Address) else None
                found.add((str(mapped or host), int(port, 16)))
    return found


def _link(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:  # closed while we looked
        return ""
