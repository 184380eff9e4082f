"""Stopping a run: a signal, or the loss of Ray's processes, raises `Stopped` once in the main thread."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_CALL = signal.SIGUSR2  # sent by `stop` to the main thread, since the signals above may be ignored
FORCE_AFTER_S = 10.0
"""Seconds in which further signals are ignored, as people press Ctrl-C twice; later ones end the process at once."""
RESUMES = "the same command goes on where this one ended"


class Stopped(KeyboardInterrupt):
    """The run was stopped from outside. It is no `Exception`, so handlers of faulty rows and units do not catch it.

    Attributes:
        status: the exit code: 128 + the signal's number, or 1 where something was lost.
        abrupt: whether this process must end without the usual clean-up, which would wait for a lost process.
    """

    def __init__(self, why: str, status: int, abrupt: bool = False) -> None:
        super().__init__(f"{why}; {RESUMES}")
        self.status = status
        self.abrupt = abrupt


class _Handler:
    """The signal handler: raises `Stopped` once, and keeps it in `raised`."""

    def __init__(self) -> None:
        self.pending: Stopped | None = None
        self.raised: Stopped | None = None
        self._raised_at: float | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - what a handler is called with
        now = time.monotonic()
        if self._raised_at is None and (self.pending or number != _CALL):
            self._raised_at = now
            why = "stopped" if number == signal.SIGINT else f"stopped by {signal.Signals(number).name}"
            self.raised = self.pending or Stopped(why, 128 + number)
            raise self.raised
        if number != _CALL and self._raised_at is not None and now - self._raised_at > FORCE_AFTER_S:
            exit_now(f"ended at once; {RESUMES}", 128 + number)


_handler: _Handler | None = None


@contextlib.contextmanager
def stoppable(signals: Sequence[signal.Signals] = SIGNALS) -> Iterator[None]:
    """Inside this context the first of some signals raises Stopped in the main thread; further ones do not.

    A signal that this process ignores (`nohup`) stays ignored. Inside another `stoppable`, or outside the
    main thread, this does nothing.

    Args:
        signals: () leaves all of them to the program that this is called from; the loss of Ray still raises Stopped.
    """
    global _handler
    if _handler is not None or threading.current_thread() is not threading.main_thread():
        yield
        return
    _handler = _Handler()
    before: dict[signal.Signals, Any] = {
        number: signal.getsignal(number)
        for number in (*signals, _CALL)
        if number == _CALL or signal.getsignal(number) is not signal.SIG_IGN
    }
    for number in before:
        signal.signal(number, _handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is _handler:  # else it was replaced meanwhile, and stays
                signal.signal(number, handler)
        _handler = None


def stopped_by(error: KeyboardInterrupt) -> Stopped:
    """Return the Stopped that an interrupt stands for: Ray replaces one raised in `ray.get` by a KeyboardInterrupt."""
    if isinstance(error, Stopped):
        return error
    raised = None if _handler is None else _handler.raised
    return raised or Stopped("stopped", 128 + signal.SIGINT)


def stop(error: Stopped) -> bool:
    """Raise `error` in the main thread, from another thread; return False outside of `stoppable`."""
    if _handler is None:
        return False
    _handler.pending = error
    signal.pthread_kill(threading.main_thread().ident or 0, _CALL)
    return True


def print_line(text: str) -> None:
    """Write one line to stderr; a stderr that is closed is no error."""
    with contextlib.suppress(OSError, ValueError):
        print(f"palimpsest: {' '.join(text.split())}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def last_words(text: str) -> Iterator[None]:
    """Have `text` said on stderr if this process ends inside this context, as Ray's native part ends it, by `_exit(1)`.

    A shell waits for that at a pipe; without one (a machine has no `sh`) nothing is said. Of the environment it gets
    the search path alone: a watermark key must not be seen there.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            waits = ["sh", "-c", 'read -r _ || printf "palimpsest: %s\\n" "$0" >&2', text]
            path = {"PATH": os.environ.get("PATH", os.defpath)}
            listener = subprocess.Popen(waits, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=path)
            stack.callback(listener.communicate, b"\n")
        yield


def exit_now(text: str, status: int) -> None:
    """Print `text` and end this process now, without clean-up; its workers notice that and end by themselves."""
    print_line(text)
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    os._exit(status)
