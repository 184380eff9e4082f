"""The lease of an output, held by one driver at a time; a second driver is refused, or takes over from a dead one.

`_tmp/driver-<number>.json` is created only if it does not exist, and never changed; the highest number is the holder.
The holder renews the heartbeat `_tmp/alive-<id>` every few seconds. On the same machine its process tells whether it
is alive; from another one its heartbeat does, watched for a while, so no two clocks are compared. A driver that was
stopped for longer finds a higher number when it goes on, and ends. The commit protocol keeps its last writes harmless.
"""

import contextlib
import json
import logging
import re
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any

from pipeline.errors import ConflictError, StorageError
from pipeline.shards.output.process_identity import ProcessIdentity
from pipeline.shards.output.store import Store

_log = logging.getLogger(__name__)

HEARTBEAT_S = 5.0
HEARTBEAT_TIMEOUT_S = 20.0
"""Seconds without a heartbeat after which a holder on another machine counts as dead."""
MAX_TRIES = 10
_NAME = re.compile(r"_tmp/driver-(\d{6})\.json")


@dataclass(frozen=True)
class Holder:
    """The driver that holds an output: its number, id, start and process."""

    number: int
    id: str
    since: str
    owner: ProcessIdentity


def current_holder(store: Store) -> Holder | None:
    """Return the driver that holds an output, dead or alive; None where nobody does."""
    found = [_NAME.fullmatch(path) for path in store.list("_tmp")]
    for number in sorted((int(match[1]) for match in found if match), reverse=True):
        try:
            data = json.loads(store.read(_path(number)))
            return Holder(number, data["id"], data["since"], ProcessIdentity(**data["owner"]))
        except FileNotFoundError:  # given back since
            continue
        except (ValueError, KeyError, TypeError):
            return Holder(number, "", "", ProcessIdentity("", "", 0, ""))
    return None


def is_alive(store: Store, holder: Holder) -> bool:
    """Return whether a holder still runs; that of another machine is watched, for `HEARTBEAT_TIMEOUT_S` at most."""
    known = holder.owner.alive()
    if known is not None:
        return known
    if not holder.id:
        return False
    first, until = _last_heartbeat(store, holder), time.monotonic() + HEARTBEAT_TIMEOUT_S
    _log.warning(
        "%s was written by process %d on %s; watching for %d s whether it still is",
        store.uri, holder.owner.pid, holder.owner.host, HEARTBEAT_TIMEOUT_S,
    )  # fmt: skip
    while time.monotonic() < until:
        time.sleep(HEARTBEAT_S / 5)
        if _last_heartbeat(store, holder) != first:
            return True
    return False


def last_progress(store: Store, holder: Holder) -> dict[str, Any]:
    """Return what a holder's last heartbeat says of its progress; empty where it says nothing."""
    try:
        progress = json.loads(_last_heartbeat(store, holder))["progress"]
    except (ValueError, KeyError, TypeError):
        return {}
    return progress if isinstance(progress, dict) else {}


class Lease:
    """The right to write one output; released at the end of its `with`.

    Args:
        progress: called with every heartbeat, in another thread; the JSON values it returns are stored with it.
    """

    def __init__(self, store: Store, progress: Callable[[], Mapping[str, Any]] = dict) -> None:
        self._store = store
        self._progress = progress
        self._held: Holder | None = None
        self._lost = False
        self._released = threading.Event()
        self._renewer: threading.Thread | None = None

    def __enter__(self) -> "Lease":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._released.set()
        if self._renewer is not None:
            self._renewer.join()
        if self._held is not None:
            with contextlib.suppress(Exception):  # left behind, it is the next driver's to remove
                last = current_holder(self._store)
                if last is None or last.id == self._held.id:  # one that took over keeps its own
                    self._store.remove(_path(self._held.number))
                self._store.remove(_heartbeat_path(self._held.id))

    def take(self) -> None:
        """Take the output for this process.

        Raises:
            ConflictError: another driver writes there.
        """
        for _ in range(MAX_TRIES):
            before = current_holder(self._store)
            if before is not None and is_alive(self._store, before):
                raise ConflictError(
                    f"{self._store.uri}: process {before.owner.pid} on {before.owner.host} has been writing it since "
                    f"{before.since}; wait for it or stop it, or choose another output"
                )
            number = before.number + 1 if before else 1
            holder = Holder(number, uuid.uuid4().hex, time.strftime("%Y-%m-%d %H:%M:%S %Z"), ProcessIdentity.here())
            if self._store.create(_path(number), json.dumps(asdict(holder)).encode()):
                self._held = holder
                self._renew()
                if before is not None:
                    self._remove_holder(before.number, before.id)
                self._renewer = threading.Thread(target=self._renew_until_released, daemon=True)
                self._renewer.start()
                return
        raise ConflictError(f"{self._store.uri}: several drivers want to write there; run again when one is left")

    def check(self) -> None:
        """Check that the lease is still held; one that was never taken passes.

        Raises:
            ConflictError: another driver has taken over.
            StorageError: nobody holds it: its folder was removed, or another driver took over and has ended.
        """
        if self._held is None:
            return
        last = current_holder(self._store)
        if last is not None and last.id == self._held.id and not self._lost:
            return
        self._lost = True
        if last is None:
            raise StorageError(
                f"{self._store.uri}: was removed or lost while this run wrote there, or another run took over and has "
                "ended since; see that it stays, and run again"
            )
        raise ConflictError(
            f"{self._store.uri}: this driver was silent for too long, and process {last.owner.pid} on "
            f"{last.owner.host} took over; what was made is kept"
        )

    @property
    def number(self) -> int:
        """The number of the lease, which grows from holder to holder while none gives it back; 0 before it is taken."""
        return self._held.number if self._held else 0

    @property
    def lost(self) -> bool:
        """Whether the lease was found to be lost."""
        return self._lost

    def _renew(self) -> None:
        assert self._held is not None
        beat = {"beat": uuid.uuid4().hex, "progress": dict(self._progress())}
        self._store.write(_heartbeat_path(self._held.id), json.dumps(beat).encode())

    def _renew_until_released(self) -> None:
        while not self._released.wait(HEARTBEAT_S):
            try:
                self.check()
                self._renew()
            except Exception as error:  # a full disk, a store that is away: the next time may do
                if self._lost:
                    return
                _log.debug("the lease of %s was not renewed: %s", self._store.uri, error)

    def _remove_holder(self, number: int, name: str) -> None:
        self._store.remove(_path(number))
        if name:
            self._store.remove(_heartbeat_path(name))


def _last_heartbeat(store: Store, holder: Holder) -> bytes:
    try:
        return store.read(_heartbeat_path(holder.id))
    except FileNotFoundError:
        return b""


def _path(number: int) -> str:
    return f"_tmp/driver-{number:06d}.json"


def _heartbeat_path(name: str) -> str:
    return f"_tmp/alive-{name}"
