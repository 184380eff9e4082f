"""Which column of the input holds the image, which the label, which the id.

Columns the recipe does not name are found by these rules, tier by tier; the first tier that has a candidate decides.

    column   tiers, in order                                                          preferred where a tier has several
    ───────  ───────────────────────────────────────────────────────────────────────  ──────────────────────────────────
    image    Hugging Face `Image` feature; struct<bytes, path>; binary                `image`, then IMAGE_NAMES
             string named as in PATH_NAMES                                            `image`
    label    Hugging Face `ClassLabel` feature; a column named as in LABEL_NAMES      `label`, then LABEL_NAMES
    id       `id`; a string or integer named as in ID_NAMES; as in FILE_NAMES

Names are compared without regard to case. A column with `mask` in its name is never taken for the image. Two
candidates left in a tier are an error that asks for the name: nothing is guessed. Input without a label column is
unlabelled.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

import pyarrow as pa

from pipeline.errors import InputError
from pipeline.shards.classes import label_kind
from pipeline.shards.column_types import is_binary, is_feature, is_image_struct, is_string, plain

ImageKind = Literal["bytes", "struct", "path"]

IMAGE_NAMES: Final = ("image", "img", "jpg", "jpeg", "png", "picture", "photo", "bytes")
PATH_NAMES: Final = ("image", "img", "path", "image_path", "file", "file_path", "filename", "file_name")
LABEL_NAMES: Final = ("label", "labels", "class", "category", "target", "y", "fine_label")
ID_NAMES: Final = ("image_id", "img_id", "sample_id", "uid", "uuid", "guid", "key", "__key__")
FILE_NAMES: Final = ("filename", "file_name", "path", "image_path", "file_path")


def check_there(where: str, name: str, names: Sequence[str]) -> None:
    if name not in names:
        near = difflib.get_close_matches(name, names, 1, cutoff=0.5)
        hint = f", did you mean {near[0]!r}?" if near else ";"
        raise InputError(f"{where}: there is no column {name!r}{hint} The columns are: {', '.join(names)}")


def image_column(schema: pa.Schema, features: Mapping[str, Any], named: str | None) -> str:
    if named is not None:
        return named
    fields = [field for field in schema if "mask" not in field.name.lower()]
    tiers: tuple[tuple[Callable[[pa.Field], bool], tuple[str, ...]], ...] = (
        (lambda field: is_feature(features.get(field.name), "Image"), IMAGE_NAMES),
        (lambda field: is_image_struct(field.type), IMAGE_NAMES),
        (lambda field: is_binary(field.type), IMAGE_NAMES),
        (lambda field: is_string(field.type) and field.name.lower() in PATH_NAMES, ()),
    )
    for accepts, names in tiers:
        found = _one([field.name for field in fields if accepts(field)], (("image",), names), "image")
        if found is not None:
            return found
    raise InputError(
        "input.columns.image: no column looks like an image (an Image feature, a struct of bytes and path, binary, or "
        f"a file name); name it. The columns are: {', '.join(schema.names)}"
    )


def image_kind(field: pa.Field) -> ImageKind:
    if is_image_struct(field.type):
        return "struct"
    if is_binary(field.type):
        return "bytes"
    if is_string(field.type):
        return "path"
    raise InputError(
        f"input.columns.image: column {field.name!r} is {field.type}; it must hold encoded images (binary, or a struct "
        "of bytes and path) or their paths (string)"
    )


def says_none(label: str | None, schema: pa.Schema) -> bool:
    """Whether `input.columns.label` says that no column is the label: `none`, where no column is called so."""
    return label is not None and label.lower() == "none" and label not in schema.names


def label_column(schema: pa.Schema, features: Mapping[str, Any], named: str | None, image: str) -> str | None:
    label = named
    if says_none(named, schema):
        return None
    if label is None:
        others = [name for name in schema.names if name != image]
        classes = [name for name in others if is_feature(features.get(name), "ClassLabel")]
        label = _one(classes, (("label",), LABEL_NAMES), "label")
        if label is None:
            label = _one([name for name in others if name.lower() in LABEL_NAMES], (("label",),), "label")
    if label is not None and label_kind(schema.field(label).type) is None:
        raise InputError(
            f"input.columns.label: column {label!r} is {schema.field(label).type}; a class is a text, a whole number "
            "or a boolean. Name another column, or carry it as it is with input.columns: {label: none}"
        )
    return label


def id_column(schema: pa.Schema, named: str | None, taken: Sequence[str | None]) -> str | None:
    def fits(name: str) -> bool:
        kind = plain(schema.field(name).type)
        return bool(pa.types.is_integer(kind)) or is_string(kind)

    if named is not None:
        if not fits(named):
            kind = schema.field(named).type
            raise InputError(f"input.columns.id: column {named!r} is {kind}; an id is a string or an integer")
        return named
    free = [name for name in schema.names if name not in taken and fits(name)]
    for names in (("id",), ID_NAMES, FILE_NAMES):
        found = _one([name for name in free if name.lower() in names], (), "id")
        if found is not None:
            return found
    return None


def _one(candidates: list[str], preferred: Sequence[tuple[str, ...]], role: str) -> str | None:
    """Return the only candidate, or the only one with a preferred name; None without candidates."""
    for names in preferred:
        if len(candidates) > 1:
            candidates = [name for name in candidates if name.lower() in names] or candidates
    if len(candidates) > 1:
        raise InputError(
            f"input.columns.{role}: {', '.join(candidates)} could each be the {role}; say which with "
            f"input.columns.{role}: {candidates[0]}"
        )
    return candidates[0] if candidates else None
