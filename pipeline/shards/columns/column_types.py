"""Tests of what a column holds, by its Arrow type and its Hugging Face feature."""

import json
from collections.abc import Mapping
from typing import Any, Final

import pyarrow as pa

HUGGINGFACE: Final = b"huggingface"


def read_features(schema: pa.Schema) -> Mapping[str, Any]:
    """Return the Hugging Face features by column; empty if the metadata holds none."""
    text = (schema.metadata or {}).get(HUGGINGFACE)
    if text is None:
        return {}
    try:
        found = json.loads(text)["info"]["features"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def is_feature(feature: Any, kind: str) -> bool:
    """Return whether a Hugging Face feature is of a kind: `Image`, `ClassLabel`, ..."""
    return isinstance(feature, dict) and feature.get("_type") == kind


def listed_names(feature: Any) -> list[str]:
    """Return the names that a Hugging Face ClassLabel lists, unchecked; none of another feature."""
    names = feature.get("names") if is_feature(feature, "ClassLabel") else None
    return [str(name) for name in names] if isinstance(names, list) else []


def plain(kind: pa.DataType) -> pa.DataType:
    """Return the type of the values behind a dictionary encoding."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def storage(kind: pa.DataType) -> pa.DataType:
    """Return the type that the values of an extension type are stored as."""
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def is_number(kind: pa.DataType) -> bool:
    """Return whether a type is of whole numbers or floats."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def is_list(kind: pa.DataType) -> bool:
    """Return whether a type is a list: of any offset width, of fixed size, or a list view."""
    views = pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind)
    return bool(views or pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def shown_type(kind: pa.DataType) -> str:
    """Return a type for a message, cut if it is long, as that of a struct may be."""
    text = str(kind)
    return text if len(text) <= 60 else f"{text[:57]}..."


def is_binary(kind: pa.DataType) -> bool:
    """Return whether a type is binary, of any width."""
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def is_string(kind: pa.DataType) -> bool:
    """Return whether a type is text, of any width, dictionary-encoded or not."""
    kind = plain(kind)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_image_struct(kind: pa.DataType) -> bool:
    """Return whether a type is a struct of encoded `bytes` (or their base64 text) and, if anything else, a `path`."""
    if not pa.types.is_struct(kind):
        return False
    parts = {kind.field(i).name: kind.field(i).type for i in range(kind.num_fields)}
    path = parts.get("path", pa.string())  # null: pyarrow's type of a column in which every path is None
    held = parts.get("bytes", pa.null())
    return (is_binary(held) or is_string(held)) and (is_string(path) or pa.types.is_null(path))


def holds_binary(kind: pa.DataType) -> bool:
    """Return whether binary data is anywhere inside a type."""
    kind = storage(plain(kind))
    if is_binary(kind):
        return True
    return any(holds_binary(kind.field(i).type) for i in range(kind.num_fields))
