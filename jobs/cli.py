"""The command line. A command's code is imported when it is called: `--help` and `plan` need no torch and no Ray."""

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from jobs.logs import add_log_options, configure, report_error
from pipeline import __version__
from pipeline.errors import JobError, PalimpsestError, RunError
from pipeline.messages import error_line
from pipeline.monitoring.stopping import SIGNALS, leave, stoppable, stopped_by
from pipeline.shards.output.storage_errors import REMEDIES, storage_error
from pipeline.working_dir import refuse_packed_keys

FAILED, WRONG = 1, 2
PIPE_CLOSED = 128 + signal.SIGPIPE


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
            report_error(options, str(error))
            return FAILED if isinstance(error, RunError) else WRONG
        except KeyboardInterrupt as error:
            return _stopped(options, error)
        except BrokenPipeError:  # `palimpsest ... | head`
            _drop_output()
            return PIPE_CLOSED
        except Exception as error:  # a fault of ours, or of the place: either way not a page of source lines
            report_error(options, _unexpected(error))
            _drop_output()
            return FAILED


def _stopped(options: argparse.Namespace, error: KeyboardInterrupt) -> int:
    """Say what stopped the command; return its exit status, or leave at once where a clean-up would never end."""
    stopped = stopped_by(error)
    if stopped.abrupt:
        leave(str(stopped), stopped.status)
    report_error(options, str(stopped))
    for number in SIGNALS:  # nobody is left who could do more about a second one than end with a traceback
        signal.signal(number, signal.SIG_IGN)
    return stopped.status


class _Parser(argparse.ArgumentParser):
    """Raises JobError where a command line is wrong; its subcommands are of the same class."""

    def error(self, message: str) -> NoReturn:
        raise JobError(f"{message}; see `{self.prog} --help`")


def _drop_output() -> None:
    """Let go of what is still to be written to a stdout that takes nothing more: it would fail again at exit."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _unexpected(error: Exception) -> str:
    """Return the line for an error that nobody raised on purpose: what and where."""
    if isinstance(error, OSError) and error.errno in REMEDIES:  # a place that is not the output: the key's, stdout
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
    _demo(commands)
    _run(commands)
    _plan(commands)
    _verify(commands)
    _trace(commands)
    _replay(commands)
    _report(commands)
    _train(commands)
    _bench(commands)
    _operators(commands)
    return top


Commands = argparse._SubParsersAction  # type: ignore[type-arg]  # argparse gives no public name


def _add(
    commands: "Commands", name: str, text: str, call: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    command.set_defaults(call=call)
    return command


def _json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="one JSON object on stdout and nothing else there")


def _key(command: argparse.ArgumentParser) -> None:
    command.add_argument("--key-file", metavar="F", help="the watermark key, 16 bytes or more (or PALIMPSEST_KEY)")


def _recipe(command: argparse.ArgumentParser) -> None:
    command.add_argument("recipe", metavar="RECIPE", help="a YAML file")
    command.add_argument("--input", metavar="URI", help="instead of input.uri")
    command.add_argument("--output", metavar="URI", help="instead of output.uri")
    command.add_argument("--set", metavar="A.B=V", action="append", default=[], help="change one value of the recipe")
    command.add_argument("--limit", metavar="N", type=_positive, help="only the first N source rows: a quick preview")


def _engine(command: argparse.ArgumentParser) -> None:
    command.add_argument("--address", default="local", help="local (default), auto, or HOST of a Ray cluster")
    command.add_argument("--executor", choices=("ray", "inline"), default="ray", help="inline: one process, no Ray")


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def _demo(commands: "Commands") -> None:
    def call(options: argparse.Namespace) -> int:
        from jobs.commands.demo import demo

        return demo(options.out, options.executor)

    command = _add(commands, "demo", "the embedded recipe over the embedded images, end to end", call)
    command.add_argument("--out", metavar="DIR", default="demo-out", help="where to (default: demo-out)")
    command.add_argument("--executor", choices=("ray", "inline"), default="ray")


def _run(commands: "Commands") -> None:
    def call(options: argparse.Namespace) -> int:
        from jobs.commands.run import run

        return run(options)

    command = _add(commands, "run", "make a data set; the same command again does only what is missing", call)
    _recipe(command)
    _key(command)
    _engine(command)
    add_log_options(command)
    command.add_argument("--dry-run", action="store_true", help="print the plan and stop")


def _plan(commands: "Commands") -> None:
    def call(options: argparse.Namespace) -> int:
        from jobs.commands.plan import show_plan

        return show_plan(options)

    command = _add(commands, "plan", "what a run would do: units, rows, images, time, bytes; runs nothing", call)
    _recipe(command)
    _json(command)


def _verify(commands: "Commands") -> None:
    def call(options: argparse.Namespace) -> int:
        from jobs.commands.verify import verify

        return verify(options.dataset, options.key_file, options.json)

    command = _add(commands, "verify", "recompute every checksum, count, link and watermark of a data set", call)
    command.add_argument("dataset", metavar="DATASET")
    _key(command)
    _json(command)


def _trace(commands: "Commands") -> None:
    def call(options: argparse.Namespace) -> int:
        from jobs.commands.trace import trace

        return trace(options.image, options.dataset, options.key_file, options.json)

    command = _add(commands, "trace", "from an image file found anywhere to the row it came from", call)
    command.add_argument("image", metavar="IMAGE_FILE")
    command.add_argument("--dataset", metavar="DATASET", required=True)
    _key(command)
    _json(command)


def _replay(commands: "Commands") -> None:
    def call(options: argparse.Namespace) -> int:
        from jobs.commands.replay import replay

        return replay(options.dataset, options.sample_id, options.key_file)

    command = _add(commands, "replay", "make one image again from its lineage and compare it with what is stored", call)
    command.add_argument("dataset", metavar="DATASET")
    command.add_argument("--sample-id", metavar="ID", required=True)
    _key(command)


def _report(commands: "Commands") -> None:
    def call(options: argparse.Namespace) -> int:
        from jobs.commands.report import report

        return report(options.dataset, options.key_file)

    command = _add(commands, "report", "write report/index.html: one self-contained page", call)
    command.add_argument("dataset", metavar="DATASET")
    _key(command)


def _train(commands: "Commands") -> None:
    def call(options: argparse.Namespace) -> int:
        from jobs.train import train

        return train(options.kind, options.config)

    command = _add(commands, "train", "train a model that an operator uses, with Ray Train", call)
    command.add_argument("kind", metavar="KIND", help="adain, concept, diffusion, distill_diffusion, fast_style or gan")
    command.add_argument("config", metavar="CONFIG", help="a YAML file")


def _bench(commands: "Commands") -> None:
    def call(options: argparse.Namespace) -> int:
        from jobs.bench import bench

        return bench(options.name, options.input, options.json)

    command = _add(commands, "bench", "this product and its peers side by side, in one run", call)
    names = ("light", "adain", "diffusion")
    command.add_argument("name", metavar="NAME", choices=names, help=", ".join(names))
    command.add_argument("--input", metavar="URI", help="shards to use instead of the bench's own images")
    _json(command)


def _operators(commands: "Commands") -> None:
    def call(options: argparse.Namespace) -> int:
        from jobs.commands.operators import show_operators

        return show_operators(options.name)

    command = _add(commands, "operators", "list operators and gates, or one's parameters", call)
    command.add_argument("name", metavar="NAME", nargs="?")
