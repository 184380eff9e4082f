"""Command-line arguments that several commands share."""

import argparse


def add_json(command: argparse.ArgumentParser) -> None:
    """Add `--json`."""
    command.add_argument("--json", action="store_true", help="one JSON object on stdout and nothing else there")


def add_key(command: argparse.ArgumentParser) -> None:
    """Add `--key-file`."""
    command.add_argument("--key-file", metavar="F", help="the watermark key, 16 bytes or more (or PALIMPSEST_KEY)")


def add_recipe(command: argparse.ArgumentParser) -> None:
    """Add RECIPE and what changes it: `--input`, `--output`, `--set` and `--limit`."""
    command.add_argument("recipe", metavar="RECIPE", help="a YAML file")
    command.add_argument("--input", metavar="URI", help="instead of input.uri")
    command.add_argument("--output", metavar="URI", help="instead of output.uri")
    command.add_argument("--set", metavar="A.B=V", action="append", default=[], help="change one value of the recipe")
    command.add_argument("--limit", metavar="N", type=_positive, help="only the first N source rows: a quick preview")


def add_executor(command: argparse.ArgumentParser) -> None:
    """Add `--executor`."""
    command.add_argument("--executor", choices=("ray", "inline"), default="ray", help="inline: one process, no Ray")


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)
