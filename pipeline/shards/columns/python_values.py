"""Conversion of Arrow values to Python, with an error that names the column if a value cannot be converted."""

import json
from typing import Any

import pyarrow as pa

from pipeline.errors import UnitError
from pipeline.messages import error_line


def python_values(column: pa.Array | pa.ChunkedArray, name: str, where: str, kept: bool = False) -> list[Any]:
    """Return the values of a column.

    Args:
        where: the shard, for the message.
        kept: it is the image or the label, so the message does not advise to drop it.

    Raises:
        UnitError: Python cannot hold a value: text that is not UTF-8, a time after the year 9999.
    """
    try:
        return list(column.to_pylist())
    except (ValueError, ArithmeticError, LookupError, pa.ArrowException) as error:
        remedy = "mend it" if kept else f"mend it, or leave it out with input.drop: [{name}]"
        raise UnitError(f"{where}: column {name!r} cannot be read: {error_line(error)}; {remedy}") from error


def json_value(text: str | bytes) -> Any:
    """Return the value of a JSON text; None if it is invalid or nested too deeply."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
