"""Printing for a person, with control characters escaped: text from shards cannot control the terminal."""

import sys
from typing import TextIO

from pipeline.messages import printable


def say(text: object, file: TextIO | None = None) -> None:
    """Print one line, to stdout by default; control characters and line breaks in it are escaped."""
    print(printable(str(text).replace("\n", "\\n")), file=file or sys.stdout)


def show(text: object, file: TextIO | None = None) -> None:
    """Print lines, to stdout by default; other control characters are escaped."""
    print(printable(text), file=file or sys.stdout)
