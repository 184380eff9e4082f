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
from dataclasses import asdict, dataclass
from types import TracebackType

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


class Lease:
    """The right to write one output; released at the end of its `with`."""

    def __init__(self, store: Store) -> None:
        self._store = store
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
                last = self._current_holder()
                if last is None or last.id == self._held.id:  # one that took over keeps its own
                    self._store.remove(_path(self._held.number))
                self._store.remove(_heartbeat_path(self._held.id))

    def take(self) -> None:
        """Take the output for this process.

        Raises:
            ConflictError: another driver writes there.
        """
        for _ in range(MAX_TRIES):
            before = self._current_holder()
            if before is not None and self._is_alive(before):
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
        last = self._current_holder()
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
    def lost(self) -> bool:
        """Whether the lease was found to be lost."""
        return self._lost

    def _current_holder(self) -> Holder | None:
        found = [_NAME.fullmatch(path) for path in self._store.list("_tmp")]
        for number in sorted((int(match[1]) for match in found if match), reverse=True):
            try:
                data = json.loads(self._store.read(_path(number)))
                return Holder(number, data["id"], data["since"], ProcessIdentity(**data["owner"]))
            except FileNotFoundError:  # given back since
                continue
            except (ValueError, KeyError, TypeError):
                return Holder(number, "", "", ProcessIdentity("", "", 0, ""))
        return None

    def _is_alive(self, holder: Holder) -> bool:
        known = holder.owner.alive()
        if known is not None:
            return known
        if not holder.id:
            return False
        first, until = self._last_heartbeat(holder), time.monotonic() + HEARTBEAT_TIMEOUT_S
        _log.warning(
            "%s was written by process %d on %s; watching for %d s whether it still is",
            self._store.uri, holder.owner.pid, holder.owner.host, HEARTBEAT_TIMEOUT_S,
        )  # fmt: skip
        while time.monotonic() < until:
            time.sleep(HEARTBEAT_S / 5)
            if self._last_heartbeat(holder) != first:
                return True
        return False

    def _last_heartbeat(self, holder: Holder) -> bytes:
        try:
            return self._store.read(_heartbeat_path(holder.id))
        except FileNotFoundError:
            return b""

    def _renew(self) -> None:
        assert self._held is not None
        self._store.write(_heartbeat_path(self._held.id), uuid.uuid4().hex.encode())

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


def _path(number: int) -> str:
    return f"_tmp/driver-{number:06d}.json"


def _heartbeat_path(name: str) -> str:
    return f"_tmp/alive-{name}"
