"""`python -m jobs ...`, equal to `palimpsest ...`."""

import os
import signal
import sys
from types import FrameType

_BY_DEFAULT = (signal.SIG_DFL, signal.default_int_handler)


def main() -> int:
    """Run one command; return its exit status. While modules load, a signal ends it with one line, too."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) in _BY_DEFAULT:
            signal.signal(number, _end)
    from jobs.cli import main as command

    return command()


def _end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - what a handler is called with
    os.write(2, f"palimpsest: stopped by {signal.Signals(number).name} before it began\n".encode())
    os._exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
