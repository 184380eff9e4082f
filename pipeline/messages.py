"""Text in messages: values of shards, recipes and libraries are made safe to print and short enough for one line.

Also the unit that a message is about, for log lines of code that does not know it.
"""

import re
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

MAX_CHARACTERS = 500
"""Longest message. Its middle is cut, so that the beginning (where) and the end (the remedy) stay."""
MAX_VALUE = 120
"""Longest value in a message."""
MAX_LISTED = 8
"""Most values of a list in a message; the others are counted."""
MAX_LISTED_CHARACTERS = 40
"""Longest value of such a list."""
MAX_LINES = 60
"""Most lines of a traceback that is stored."""

_UNIT_HERE: ContextVar[str] = ContextVar("unit", default="")
_UNITS: list[str] = []
"""Units that threads of this process are making."""
_JOINERS = "\u200c\u200d"
"""Characters that join letters and emoji: not printable by Python's rule, but harmless."""
_ODD = re.compile(r"[^\x20-\x7e]")  # the rest of ASCII is printable


def one_line(text: object, max_characters: int = MAX_CHARACTERS) -> str:
    """Return `text` as one line of at most `max_characters` characters that is safe to print, to log and to store.

    Runs of white space are one space; control characters, terminal escapes, direction marks and lone surrogates are
    spelled out (`\\x1b`). The same text again gives the same line.
    """
    whole = str(text)
    if len(whole) > 4 * max_characters:  # what is cut anyway is not looked at
        whole = f"{whole[: 2 * max_characters]} ... {whole[-2 * max_characters :]}"
    line = _ODD.sub(_spelled, " ".join(whole.split()))
    return _cut(line, max_characters)


def printable(text: object) -> str:
    """Return text with control characters escaped as by `one_line`, and its line breaks and spaces kept."""
    return "\n".join(_ODD.sub(_spelled, line) for line in str(text).split("\n"))


def short_repr(value: Any, max_characters: int = MAX_VALUE) -> str:
    """Return the `repr` of a value for a message: on one line, with the middle cut if it is long."""
    if isinstance(value, str) and len(value) > 4 * max_characters:
        value = value[: 2 * max_characters] + value[-2 * max_characters :]
    return one_line(repr(value), max_characters)


def listed(values: Iterable[Any], max_values: int = MAX_LISTED) -> str:
    """Return a list of values for a message: the first few, each cut if it is long, and how many more there are."""
    every = [_without_end(str(value)) for value in values]
    more = f" and {len(every) - max_values} more" if len(every) > max_values else ""
    return ", ".join(every[:max_values]) + more


def error_line(error: BaseException, max_characters: int = MAX_CHARACTERS) -> str:
    """Return the type and text of an error as one line of at most `max_characters` characters."""
    return one_line(f"{type(error).__name__}: {error}", max_characters)


def counted(number: int, noun: str) -> str:
    """Return a number and what it counts: `1 row`, `2 rows`, `0 rows`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _without_end(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= MAX_LISTED_CHARACTERS else f"{text[: MAX_LISTED_CHARACTERS - 3]}..."


def _spelled(match: re.Match[str]) -> str:
    character = match.group()
    if character.isprintable() or character in _JOINERS:
        return character
    return character.encode("unicode_escape").decode("ascii")


def _cut(line: str, max_characters: int) -> str:
    if len(line) <= max_characters:
        return line
    tail = (max_characters - 5) // 2
    return f"{line[: max_characters - 5 - tail].rstrip()} ... {line[-tail:].lstrip()}"


def format_traceback(error: BaseException) -> str:
    """Return the traceback of an error as text of bounded size, for a record and for the log."""
    lines = "".join(traceback.format_exception(error)).splitlines()
    if len(lines) > MAX_LINES:
        half = MAX_LINES // 2
        lines = [*lines[:half], f"... {len(lines) - 2 * half} lines", *lines[-half:]]
    return "\n".join(_indented(line) for line in lines)


def _indented(line: str) -> str:
    body = line.lstrip(" ")
    return " " * min(12, len(line) - len(body)) + one_line(body)


@contextmanager
def about_unit(unit: str) -> Iterator[None]:
    """Let log lines that are written inside this context, also by other threads, name the unit."""
    token = _UNIT_HERE.set(unit)
    _UNITS.append(unit)
    try:
        yield
    finally:
        _UNITS.remove(unit)
        _UNIT_HERE.reset(token)


def unit_in_hand() -> str:
    """Return the unit that this thread is making, or the only one of this process; empty where there is none."""
    units = [*_UNITS]
    return _UNIT_HERE.get() or (units[0] if len(units) == 1 else "")
