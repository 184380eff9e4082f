"""The command line. A command's code is imported when it is called: `--help` and `plan` need no torch and no Ray."""

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

from jobs.commands import bench, demo, new_operator, operators, plan, replay, report, run, status, trace, train, verify
from jobs.logs import configure, report_error
from pipeline import __version__
from pipeline.errors import JobError, PalimpsestError, RunError
from pipeline.messages import error_line
from pipeline.monitoring.stopping import SIGNALS, exit_now, stoppable, stopped_by
from pipeline.shards.output.storage_errors import REMEDIES, storage_error
from pipeline.working_dir import refuse_packed_keys

FAILED, WRONG = 1, 2
"""Exit statuses: of a RunError and of an internal error; of every other own error (docs/running.md)."""
PIPE_CLOSED = 128 + signal.SIGPIPE
COMMANDS: Final = {
    "demo": demo,
    "run": run,
    "plan": plan,
    "status": status,
    "verify": verify,
    "trace": trace,
    "replay": replay,
    "report": report,
    "train": train,
    "bench": bench,
    "operators": operators,
    "new-operator": new_operator,
}
"""Name -> module, in the order of `palimpsest --help`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status. Whatever ends it is one line on stderr, never a traceback."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        options = parser().parse_args(given)
    except JobError as error:
        options = argparse.Namespace(log_json="--log-json" in given)
        configure(options)
        report_error(options, str(error))
        return WRONG
    configure(options)
    with stoppable():
        try:
            refuse_packed_keys(getattr(options, "key_file", None))
            status: int = options.call(options)
            sys.stdout.flush()
            return status
        except PalimpsestError as error:
            report_error(options, str(error), error)
            return FAILED if isinstance(error, RunError) else WRONG
        except KeyboardInterrupt as error:
            return _stopped(options, error)
        except BrokenPipeError:  # `palimpsest ... | head`
            _drop_output()
            return PIPE_CLOSED
        except Exception as error:  # a bug here, or a fault of the storage: one line in either case, no traceback
            report_error(options, _unexpected(error), error)
            _drop_output()
            return FAILED


def _stopped(options: argparse.Namespace, error: KeyboardInterrupt) -> int:
    """Say what stopped the command; return its exit status, or leave at once where a clean-up would never end."""
    stopped = stopped_by(error)
    if stopped.abrupt:
        exit_now(str(stopped), stopped.status)
    report_error(options, str(stopped))
    for number in SIGNALS:  # a second signal could only end the process with a traceback
        signal.signal(number, signal.SIG_IGN)
    return stopped.status


class _Parser(argparse.ArgumentParser):
    """Raises JobError where a command line is wrong; its subcommands are of the same class."""

    def error(self, message: str) -> NoReturn:
        raise JobError(f"{message}; see `{self.prog} --help`")


def _drop_output() -> None:
    """Discard the buffered output of a closed stdout: writing it at exit would fail again."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _unexpected(error: Exception) -> str:
    """Return the line for an error that nobody raised on purpose: what and where."""
    if isinstance(error, OSError) and error.errno in REMEDIES:  # as of stdout or a key file
        return str(storage_error(str(error.filename or "this machine"), error))
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(last.filename).name}:{last.lineno}"
    return f"internal error: {error_line(error)} ({where}); please report it with the command"


def parser() -> argparse.ArgumentParser:
    """Return the parser of every command."""
    top = _Parser(
        prog="palimpsest", description="Labelled image shards in; augmented, traceable training data out, on Ray."
    )
    top.add_argument("--version", action="version", version=f"palimpsest {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    for name, module in COMMANDS.items():
        command = commands.add_parser(name, help=module.HELP, description=module.HELP)
        command.set_defaults(call=module.call)
        module.add_arguments(command)
    return top
