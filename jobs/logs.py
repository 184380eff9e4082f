"""Log output of a command on stderr: lines for a person, or one JSON object a line. stdout is for results."""

import argparse
import logging
import sys

from pipeline.messages import format_traceback, printable
from pipeline.monitoring.log_lines import LOGGERS, as_json
from pipeline.monitoring.stopping import print_line


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


def report_error(options: argparse.Namespace, text: str, error: BaseException | None = None) -> None:
    """Write the error that ended a command to stderr, in the form of its other lines: JSON has its traceback, too."""
    if getattr(options, "log_json", False):
        fields = {} if error is None else {"error": type(error).__name__, "traceback": format_traceback(error)}
        logging.getLogger(LOGGERS[0]).error("%s", text, extra={"event": "error", "fields": fields})
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
    if event == "unit_attempt_failed" and form == "plain":  # another try follows, or the unit's failure is told
        return ""
    if record.levelno >= logging.WARNING:
        text = f"palimpsest: {text}"
    elif form == "plain":
        fields = getattr(record, "fields", {})
        return text if event == "run_started" and (fields.get("done") or "asked" in fields) else ""
    return f"{text}\n{detail}".strip() if form == "verbose" else text
