"""Hive partitions: values in folder names (`label=cat/part-0.parquet`), as Spark, pandas and Polars write them.

Every `name=value` folder below the root of the input is a column of its shards, and so are those just above the file
or the root, without another folder between them. Names and values are URL-decoded; `__HIVE_DEFAULT_PARTITION__` and an
empty value are null. A column is int64 where every value in the input is a whole number as Python writes it, else a
string: `007` stays what it is.
"""

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote

import pyarrow as pa

from pipeline.errors import InputError

Partitions = tuple[tuple[str, str | None], ...]

_NULL: Final = "__HIVE_DEFAULT_PARTITION__"
_FOLDER: Final = re.compile(r"([^=]+)=(.*)", re.DOTALL)
_WHOLE: Final = re.compile(r"0|-?[1-9][0-9]{0,17}")  # within int64


def partitions_of(uri: str, path: str) -> Partitions:
    """Return the (name, value) pairs in the folder names of a shard, outermost first.

    Args:
        uri: of the shard.
        path: of the shard, relative to the root of the input.

    Raises:
        InputError: two folders state one name.
    """
    folders = uri.split("/")[:-1]
    below = path.count("/")
    found = [match for match in map(_FOLDER.fullmatch, folders[len(folders) - below :]) if match]
    for folder in reversed(folders[: len(folders) - below]):
        match = _FOLDER.fullmatch(folder)
        if match is None:
            break
        found.insert(0, match)
    stated = tuple((unquote(match[1]), _value(match[2])) for match in found)
    names = [name for name, _ in stated]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{uri}: two of its folders say {name}=; rename one")
    return stated


def partition_fields(shards: Iterable[Partitions]) -> list[pa.Field]:
    """Return the partition columns of all shards, in the order in which they are met."""
    values: dict[str, set[str]] = {}
    for stated in shards:
        for name, value in stated:
            values.setdefault(name, set()).update(() if value is None else (value,))
    return [pa.field(name, _kind(found)) for name, found in values.items()]


def partition_column(value: str | None, kind: pa.DataType, rows: int) -> pa.Array:
    """Return a partition value as a column of `rows` equal values."""
    if value is None:
        return pa.nulls(rows, kind)
    return pa.repeat(pa.scalar(int(value) if pa.types.is_integer(kind) else value, kind), rows)


def _value(text: str) -> str | None:
    return None if text in ("", _NULL) else unquote(text)


def _kind(values: set[str]) -> pa.DataType:
    return pa.int64() if values and all(_WHOLE.fullmatch(value) for value in values) else pa.string()
