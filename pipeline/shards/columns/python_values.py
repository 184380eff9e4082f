"""Values of a column as Python has them; what it has none for is an error that names the column."""

import json
from typing import Any

import pyarrow as pa

from pipeline.errors import UnitError
from pipeline.messages import error_line


def python_values(column: pa.Array | pa.ChunkedArray, name: str, where: str, kept: bool = False) -> list[Any]:
    """Return the values of a column.

    Args:
        where: the shard, for the message.
        kept: whether it is the image or the label, which nobody should leave out.

    Raises:
        UnitError: one is nothing that Python can hold: text that is no UTF-8, a time beyond the year 9999.
    """
    try:
        return list(column.to_pylist())
    except (ValueError, ArithmeticError, LookupError, pa.ArrowException) as error:
        remedy = "mend it" if kept else f"mend it, or leave it out with input.drop: [{name}]"
        raise UnitError(f"{where}: column {name!r} cannot be read: {error_line(error)}; {remedy}") from error


def json_value(text: str | bytes) -> Any:
    """Return what a JSON text says; None where it is none, or nested too deep."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
