"""Conversion of values between Arrow and Python, with an error that names the column if one cannot be converted."""

import json
import sys
from importlib.abc import MetaPathFinder
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


def spare_pandas() -> None:
    """Keep `pyarrow.array` from importing pandas, 0.4 s of processor time, in this process.

    It asks for pandas at its first call, whatever it is given, and remembers what it found. `to_pandas` and `import
    pandas` still load it; only a pandas Series that goes into `pyarrow.array` before that is taken as a plain sequence.
    For processes of our own, not for a program that this is imported into.
    """
    if "pandas" in sys.modules:
        return
    hidden = _NoPandas()
    sys.meta_path.insert(0, hidden)
    try:
        pa.array([None])
    finally:
        sys.meta_path.remove(hidden)


class _NoPandas(MetaPathFinder):
    """Finds no pandas, and leaves all other modules to the next finder."""

    def find_spec(self, name: str, path: object, target: object = None) -> None:  # noqa: ARG002 - as it is called
        if name == "pandas":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
