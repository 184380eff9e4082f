"""Log output of a command on stderr: lines for a person, or one JSON object a line. stdout is for results."""

import argparse
import datetime
import json
import logging
import sys

from pipeline.messages import printable
from pipeline.monitoring.stopping import print_line

LOGGERS = ("palimpsest", "pipeline", "py.warnings")
"""Loggers that are shown: events of a run, messages of our modules, and warnings of libraries."""


def add_log_options(command: argparse.ArgumentParser) -> None:
    """Add `--verbose`, `--quiet` and `--log-json`, of which one may be given."""
    group = command.add_mutually_exclusive_group()
    group.add_argument("--verbose", action="store_true", help="one line a unit, and tracebacks, on stderr")
    group.add_argument("--quiet", action="store_true", help="nothing on stderr but errors and one last line")
    group.add_argument("--log-json", action="store_true", help="one JSON object a line and an event, on stderr")


def shows_progress(options: argparse.Namespace) -> bool:
    """Return whether progress is shown: not together with `--verbose`, `--quiet` or `--log-json`."""
    return not any(getattr(options, name, False) for name in ("verbose", "quiet", "log_json"))


def configure(options: argparse.Namespace) -> None:
    """Send the records of LOGGERS to stderr, in the form the options ask for; called once a command."""
    form = next((name for name in ("verbose", "quiet", "log_json") if getattr(options, name, False)), "plain")
    handler = _Stderr(form)
    logging.captureWarnings(form == "log_json")
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(logging.INFO)
        logger.propagate = False


def report_error(options: argparse.Namespace, text: str) -> None:
    """Write the error that ended a command to stderr, in the form of its other lines."""
    if getattr(options, "log_json", False):
        logging.getLogger(LOGGERS[0]).error("%s", text, extra={"event": "error"})
    else:
        print_line(text)


class _Stderr(logging.Handler):
    """Writes records to the current stderr, above a progress bar if there is one."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self._form = form

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = as_json(record) if self._form == "log_json" else printable(as_text(record, self._form))
            if text:
                from tqdm import tqdm  # a fifth of a second, which `--help` and a first Ctrl-C need not wait for

                tqdm.write(text, file=sys.stderr)
        except Exception:
            self.handleError(record)


def as_json(record: logging.LogRecord) -> str:
    """Return a record as one JSON object: time, level, event, message and the event's own fields."""
    at = datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds")
    event = getattr(record, "event", "message")
    fields = {"time": at, "level": record.levelname.lower(), "event": event, "message": record.getMessage()}
    return json.dumps(fields | getattr(record, "fields", {}), default=str)


def as_text(record: logging.LogRecord, form: str) -> str:
    """Return the text of a record for a person; empty if it is not shown."""
    event, detail = getattr(record, "event", ""), getattr(record, "detail", "")
    text = record.getMessage()
    if form == "quiet":
        shown = record.levelno >= logging.ERROR or event == "run_finished"
        return (f"{text}\n{detail}" if record.levelno >= logging.ERROR else text).strip() if shown else ""
    if event in ("run_finished", "note"):
        return detail or f"note: {text}"
    if record.levelno >= logging.ERROR:
        return f"{text}\n{detail}".strip()
    if record.levelno >= logging.WARNING:
        text = f"palimpsest: {text}"
    elif form == "plain":
        return text if event == "run_started" and getattr(record, "fields", {}).get("done") else ""
    return f"{text}\n{detail}".strip() if form == "verbose" else text
