"""Class names in the metadata of shards, in the order in which they are looked for.

ClassLabel   a Hugging Face feature of the label column
id2label     `{index: name}`, or `label2id`, the other way round: in the metadata of the column or of the schema, in
             the Hugging Face metadata, or in what pandas keeps of `DataFrame.attrs`

The categories of a Polars `Enum` (`enum_names`) are texts in an order, and give no number a name.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from pipeline.errors import InputError
from pipeline.messages import listed, short_repr
from pipeline.shards.columns.class_table import repeated
from pipeline.shards.columns.column_types import HUGGINGFACE, is_feature, read_features
from pipeline.shards.columns.python_values import json_value
from pipeline.shards.files.discovery import Shard

CLASS_LABEL: Final = "ClassLabel"
_BESIDE: Final = (HUGGINGFACE, b"PANDAS_ATTRS", b"pandas")
_ENUMS: Final = (b"_PL_ENUM_VALUES2", b"_PL_ENUM_VALUES")
_LENGTH: Final = re.compile(rb"(\d{1,9});")


@dataclass(frozen=True)
class ClassNames:
    """Class names by index, and where they were found: `ClassLabel`, `id2label`, ..."""

    names: tuple[str, ...]
    origin: str


def read_class_names(distinct: Sequence[tuple[Shard, pa.Schema]], label: str, named: bool = False) -> ClassNames | None:
    """Return the class names in the metadata of the shards, the longest list; None if there are none.

    Args:
        named: names are given elsewhere, so that broken metadata is no error.

    Raises:
        InputError: two shards name the same index differently, which would mislabel silently; or the names leave
            an index out, or give one name to two.
    """
    first: Shard | None = None
    longest: ClassNames | None = None
    for shard, schema in distinct:
        try:
            found = names_in(schema, label)
        except InputError:
            if named:
                continue
            raise
        if found is None:
            continue
        if longest is None or first is None:
            first, longest = shard, found
            continue
        if any(one != other for one, other in zip(found.names, longest.names, strict=False)):
            raise InputError(
                f"column {label!r}: the classes are {listed(longest.names)} in {first.uri} and {listed(found.names)} "
                f"in {shard.uri}, so one number means two classes; give the shards one order of classes"
            )
        if len(found.names) > len(longest.names):
            first, longest = shard, found
    return longest


def names_in(schema: pa.Schema, label: str) -> ClassNames | None:
    """Return the class names in one schema's metadata for its label column. Raises InputError as `read_class_names`."""
    names = class_label_names(read_features(schema).get(label))
    if names is not None:
        return ClassNames(names, CLASS_LABEL)
    for where, said in _mappings(schema, label):
        names = names_of(said, f"column {label!r}: {where} in the metadata", "say the names with input.class_names")
        return ClassNames(names, where)
    return None


def class_label_names(feature: Any) -> tuple[str, ...] | None:
    """Return the names of a ClassLabel feature by index; None where it has none."""
    if not is_feature(feature, CLASS_LABEL):
        return None
    names = feature.get("names")
    remedy = "mend them, or say input.class_names (of a trainer: data.classes)"
    return names_of(names, "the class names of the metadata", remedy) if names else None


def names_of(said: Any, where: str, remedy: str) -> tuple[str, ...]:
    """Return names by index from a list, or from a mapping of every index to its name.

    Raises:
        InputError: it is something else, leaves an index out, holds a blank name or one name twice.
    """
    if isinstance(said, Mapping):
        found = {_whole(key): name for key, name in said.items()}
        absent = [index for index in range(len(said)) if index not in found]
        if absent or len(found) != len(said):
            raise InputError(
                f"{where}: index {absent[0] if absent else 0} has no name (indexes: {listed(said)}); name every "
                f"index from 0 on; {remedy}"
            )
        said = [found[index] for index in range(len(said))]
    if not isinstance(said, list | tuple) or not said or any(isinstance(name, list | dict) for name in said):
        raise InputError(f"{where}: needs a list of names, or every index with its name; {remedy}")
    names = tuple(str(name) for name in said)
    blank = [index for index, name in enumerate(said) if name is None or not str(name).strip()]
    if blank:
        raise InputError(f"{where}: the name of index {blank[0]} is blank; {remedy}")
    twice = repeated(names)
    if twice:
        raise InputError(f"{where}: {listed(twice)} is there twice; {remedy}")
    return names


def invert_index(indexes: Mapping[Any, Any], where: str, remedy: str) -> dict[Any, Any]:
    """Return `{index: name}` of a `{name: index}`. Raises InputError where two names have one index."""
    names: dict[Any, Any] = {}
    for name, index in indexes.items():
        if isinstance(index, list | dict):
            raise InputError(f"{where}: {short_repr(name)} has no index, but {short_repr(index)}; {remedy}")
        if index in names:
            raise InputError(f"{where}: {listed([names[index], name])} have one index, {index}; {remedy}")
        names[index] = name
    return names


def _mappings(schema: pa.Schema, label: str) -> Iterator[tuple[str, dict[Any, Any]]]:
    """Yield every `{index: name}` that the metadata holds, nearest to the column first."""
    texts = dict(schema.metadata or {})
    own = dict(schema.field(label).metadata or {})
    places: list[Mapping[Any, Any]] = [
        {
            key.decode(errors="replace"): json_value(text)
            for key, text in some.items()
            if key in (b"id2label", b"label2id")
        }
        for some in (own, texts)
    ]
    for key in _BESIDE:
        said = json_value(texts.get(key, b""))
        if isinstance(said, dict):
            inner = [said, said.get("info"), said.get("attributes")]
            places += [place for place in inner if isinstance(place, dict)]
    for place in places:
        if isinstance(place.get("id2label"), dict) and place["id2label"]:
            yield "id2label", place["id2label"]
        if isinstance(place.get("label2id"), dict) and place["label2id"]:
            where = f"column {label!r}: label2id in the metadata"
            yield "label2id", invert_index(place["label2id"], where, "say the names with input.class_names")


def enum_names(field: pa.Field) -> tuple[str, ...]:
    """Return the categories of a Polars Enum, none of another column: each is its length in bytes, `;`, and itself."""
    metadata = field.metadata or {}
    text = next((metadata[key] for key in _ENUMS if key in metadata), b"")
    names, at = [], 0
    while at < len(text):
        found = _LENGTH.match(text, at)
        if found is None:
            return ()
        at = found.end() + int(found[1])
        names.append(text[found.end() : at].decode(errors="replace"))
    return tuple(names)


def _whole(key: Any) -> int:
    try:
        return int(key)
    except (TypeError, ValueError, OverflowError):
        return -1
