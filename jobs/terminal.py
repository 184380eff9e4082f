"""What a command says to a person: text of shards and data sets in it is no command to their terminal, and no line."""

import sys
from typing import TextIO

from pipeline.messages import printable


def say(text: object, file: TextIO | None = None) -> None:
    """Print one line, on stdout where no file is named; control characters and line breaks in it are spelled out."""
    print(printable(str(text).replace("\n", "\\n")), file=file or sys.stdout)


def show(text: object, file: TextIO | None = None) -> None:
    """Print lines, on stdout where no file is named; other control characters in them are spelled out."""
    print(printable(text), file=file or sys.stdout)
