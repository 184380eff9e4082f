"""Memory of a process and all its descendants, sampled while they run. Linux only; elsewhere nothing is measured."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

PROC = Path("/proc")
INTERVAL_S = 0.5
MIB = 1 << 20


@dataclass
class Peak:
    """Highest values seen, MiB.

    `rss` is the sum of resident sets: pages that several processes share, libraries and Ray's object store, count in
    each. `own` counts what no file backs, and the largest shared segment once: the part that could grow with the data.
    `driver` is the resident set of the first process alone.
    """

    rss: float = 0.0
    own: float = 0.0
    driver: float = 0.0

    def as_json(self) -> dict[str, float]:
        return {"rss": round(self.rss, 1), "own": round(self.own, 1), "driver": round(self.driver, 1)}


class MemoryWatch:
    """Samples the tree below `pid` twice a second, from `with` to the end of its body."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.peak = Peak()

    def __enter__(self) -> "MemoryWatch":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(INTERVAL_S):
            found = {pid: memory(pid) for pid in tree(self._pid)}
            if not any(found.values()):
                continue
            values = list(found.values())
            peak = self.peak
            peak.rss = max(peak.rss, sum(value.get("VmRSS", 0) for value in values) / MIB)
            shared = max(value.get("RssShmem", 0) for value in values)
            peak.own = max(peak.own, (sum(value.get("RssAnon", 0) for value in values) + shared) / MIB)
            peak.driver = max(peak.driver, found[self._pid].get("VmRSS", 0) / MIB)


def tree(pid: int) -> list[int]:
    """Return `pid` and its descendants that are alive."""
    children: dict[int, list[int]] = {}
    for folder in PROC.glob("[0-9]*"):
        try:
            # The name, in brackets, may hold anything; state and parent come behind it.
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):  # it ended meanwhile
            continue
        children.setdefault(parent, []).append(int(folder.name))
    found = [pid]
    for known in found:
        found.extend(children.get(known, ()))
    return found


def memory(pid: int) -> Mapping[str, int]:
    """Return VmRSS, RssAnon and RssShmem of a process, bytes; nothing where it ended meanwhile."""
    try:
        lines = (PROC / str(pid) / "status").read_text().splitlines()
    except OSError:
        return {}
    fields = (line.split() for line in lines if line.startswith(("VmRSS:", "RssAnon:", "RssShmem:")))
    return {name.rstrip(":"): int(kilobytes) * 1024 for name, kilobytes, _ in fields}
