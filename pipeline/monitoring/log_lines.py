"""Log records as JSON lines, in the driver (`--log-json`) and in workers on Ray, whose stderr is in Ray's log files.

A line that is written while a unit is made names it in `unit`, whoever writes it.
"""

import datetime
import json
import logging
import os
import socket
import sys

from pipeline.messages import format_traceback, unit_in_hand

LOGGERS = ("palimpsest", "pipeline", "py.warnings")
"""Loggers that are shown: events of a run, messages of our modules, and warnings of libraries."""


def as_json(record: logging.LogRecord) -> str:
    """Return a record as one JSON object: time, level, event, message, the unit if any, and the event's own fields."""
    at = datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds")
    event = getattr(record, "event", "message")
    fields = {"time": at, "level": record.levelname.lower(), "event": event, "message": record.getMessage()}
    if unit := unit_in_hand():
        fields["unit"] = unit
    if record.exc_info and record.exc_info[1] is not None:
        fields["traceback"] = format_traceback(record.exc_info[1])
    return json.dumps(fields | getattr(record, "fields", {}), default=str)


class WorkerLog(logging.Handler):
    """Writes the records of a worker process to its stderr, as JSON lines with `branch`, `node` and `pid`."""

    def __init__(self, branch: str) -> None:
        super().__init__(logging.INFO)
        self._fields = {"branch": branch, "node": socket.gethostname(), "pid": os.getpid()}

    def emit(self, record: logging.LogRecord) -> None:
        try:
            record.fields = self._fields | getattr(record, "fields", {})
            print(as_json(record), file=sys.stderr, flush=True)
        except Exception:
            self.handleError(record)


def log_as_worker(branch: str) -> None:
    """Let this process, a worker of one branch, log to its stderr in JSON lines alone."""
    logging.captureWarnings(True)
    handler = WorkerLog(branch)
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO)
