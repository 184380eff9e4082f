"""The class names of an input: from the recipe, from the metadata of shards, or from labels that are text."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import fsspec
import pyarrow as pa

from pipeline.errors import InputError, RecipeError
from pipeline.messages import listed, one_line
from pipeline.planning.recipe_file import absolute
from pipeline.planning.yaml_documents import MAX_VALUES, parse_document
from pipeline.shards.columns.class_metadata import invert_index, names_of
from pipeline.shards.columns.class_table import MAX_INDEX, NO_CLASS, repeated
from pipeline.shards.columns.label_values import LabelValues, read_label_values
from pipeline.shards.columns.layout import Layout
from pipeline.shards.files.discovery import Shard
from pipeline.shards.files.uris import is_local
from schemas.recipe import Input

RECIPE_NAMES: Final = "input.class_names"
LABEL_TEXTS: Final = "the labels themselves, sorted"
DECLARED: Final = "the label column's categories, in their order"
_MAX_BYTES: Final = 16 << 20
_MAX_NAMES: Final = 100_000
_NUMBERED: Final = re.compile(r"(\d{1,6})(?:\s*[:,;.\t]\s*|\s+)(\S.*)")
_AS_NUMBERS: Final = "they are numbers as texts, so write the column as whole numbers (pandas: .astype(int))"
_REMEDY: Final = "say the names with input.class_names, or carry the column as it is with input.columns: {label: none}"


def resolve_classes(layout: Layout, shards: Sequence[Shard], wanted: Input, base: str) -> tuple[Layout, LabelValues]:
    """Return the layout with its class names, and the values of the label column.

    Names come from `input.class_names`, else from the shards' metadata (`pipeline.shards.columns.class_metadata`), else
    the text labels themselves: categories of an ordered dictionary in their order, others sorted by code point.

    Raises:
        RecipeError: `input.class_names` is not a list of names, or cannot be read.
        InputError: a label cannot be a class: not a whole number, too large, or not among the names.
    """
    given = None if wanted.class_names is None else _given(wanted.class_names, base)
    if given is not None and layout.label is None and layout.carried_label is not None:
        raise InputError(
            f"input.class_names: there are no classes to name, since input.columns says label: none and column "
            f"{layout.carried_label!r} is carried as it is; leave out one of the two"
        )
    if layout.label is None:
        return layout if given is None else layout.named(given, RECIPE_NAMES), LabelValues()
    values = read_label_values(shards, layout.label, layout.schema.field(layout.label).type)
    if given is not None:
        layout = layout.named(given, RECIPE_NAMES)
    elif layout.classes is None and layout.table.kind == "text":
        layout = layout.named(values.texts, LABEL_TEXTS if values.declared is None else DECLARED)
    _check_values(layout, values)
    return layout, values


def _given(said: Any, base: str) -> tuple[str, ...]:
    try:
        names = names_of(_read(said, base) if isinstance(said, str) else said, "recipe.input.class_names", "correct it")
    except InputError as error:
        raise RecipeError(str(error)) from None
    if len(names) > _MAX_NAMES:
        raise RecipeError(f"recipe.input.class_names: {len(names):,} names; {_MAX_NAMES:,} at most")
    return names


def _read(uri: str, base: str) -> Any:
    """Return the content of a file of names: a JSON or YAML value, or its non-blank lines."""
    where = absolute(uri, base)
    if is_local(where) and Path(where.removeprefix("file://")).exists() and not Path(where).is_file():
        raise RecipeError(f"recipe.input.class_names = {uri!r}: no file; give a file of names, or a list")
    try:
        with fsspec.open(where, "rb") as file:
            data: bytes = file.read(_MAX_BYTES + 1)
    except (OSError, ValueError, ImportError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise RecipeError(f"recipe.input.class_names = {uri!r}: cannot be read: {reason}; {where}") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise RecipeError(f"recipe.input.class_names = {uri!r}: not text (UTF-8)") from None
    if "\0" in text:
        raise RecipeError(f"recipe.input.class_names = {uri!r}: not text (it holds NUL)")
    if len(data) > _MAX_BYTES:
        raise RecipeError(f"recipe.input.class_names = {uri!r}: more than {_MAX_BYTES >> 20} MiB; give a list")
    if where.lower().endswith((".yaml", ".yml")):
        found = parse_document(text, f"recipe.input.class_names = {uri!r}", max_keys=MAX_VALUES)
    else:
        try:
            found = json.loads(text, object_pairs_hook=_once)
        except (ValueError, RecursionError) as error:
            if where.lower().endswith(".json") or text.lstrip()[:1] in ("[", "{"):
                raise RecipeError(f"recipe.input.class_names = {uri!r}: not JSON: {one_line(error)}") from None
            return _lines(text, uri)
    if isinstance(found, Mapping):
        for key in ("id2label", "names", "label2id"):  # a model's config.json, a ClassLabel feature, YOLO's data.yaml
            if isinstance(found.get(key), list | dict):
                found = found[key]
                break
    if isinstance(found, Mapping) and found and all(type(index) is int for index in found.values()):
        found = invert_index(found, f"recipe.input.class_names = {uri!r}", "correct it")  # as Keras and label2id say it
    return found if isinstance(found, list | dict) else text.split()


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; raise ValueError if a key occurs twice, since JSON readers would keep only the last."""
    if twice := repeated([key for key, _ in pairs]):
        raise ValueError(f"{listed(twice)} is there twice")
    return dict(pairs)


def _lines(text: str, uri: str) -> Any:
    """Return the names in a text file: its lines, or a mapping if every line begins with its index."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    numbered = [match for match in map(_NUMBERED.fullmatch, lines) if match]
    if lines and sorted(int(match[1]) for match in numbered) == list(range(len(lines))):
        return {match[1]: match[2] for match in numbered}
    if uri.lower().endswith((".csv", ".tsv")) and any("," in line or "\t" in line for line in lines):
        raise RecipeError(f"recipe.input.class_names = {uri!r}: a table; give a name a line, or JSON")
    return lines


def _check_values(layout: Layout, values: LabelValues) -> None:
    """Raise InputError if a label cannot be a class."""
    table, where = layout.table, f"input.columns.label: column {layout.label!r}"
    if table.kind == "text":
        strangers = [text for text in values.values if text.strip() and table.index(text) == NO_CLASS]
        if strangers:
            remedy = _AS_NUMBERS if all(text.strip().isdecimal() for text in values.values) else _REMEDY
            raise InputError(
                f"{where}: {_counted(strangers, values)} not among the {len(table.names)} class names of "
                f"{layout.class_source} ({listed(table.names)}); {remedy}"
            )
        return
    if table.kind == "float":
        broken = [value for value in values.values if value != round(value)] if _finite(values) else values.values
        if broken:
            raise InputError(
                f"{where} is {_type(layout)}: {_counted(broken, values)} no whole number, so no class; name another "
                "column, or carry it as it is with input.columns: {label: none}"
            )
    last = len(table.names) - 1 if table.names else MAX_INDEX
    beyond = [value for value in values.values if value > last]
    if beyond and table.names:
        raise InputError(
            f"{where}: {_counted(beyond, values)} beyond the {len(table.names)} class names of {layout.class_source} "
            f"({listed(table.names)}); {_REMEDY}"
        )
    if beyond:
        raise InputError(f"{where}: {_counted(beyond, values)} no class index; {_REMEDY}")


def _finite(values: LabelValues) -> bool:
    return all(abs(value) != float("inf") for value in values.values)


def _counted(some: Sequence[Any], values: LabelValues) -> str:
    rows = sum(values.rows[value] for value in some)
    return f"{listed([repr(value) for value in some])} ({rows} {'row' if rows == 1 else 'rows'}) " + (
        "is" if len(some) == 1 else "are"
    )


def _type(layout: Layout) -> pa.DataType:
    return layout.schema.field(layout.label).type
