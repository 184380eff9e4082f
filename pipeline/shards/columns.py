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
import re
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
CLASS_WORDS: Final = frozenset((
    "label", "labels", "class", "classes", "classname", "cls", "category", "categories", "categoryid", "target",
    "species", "breed", "genus", "diagnosis", "classid", "labelid",
))  # fmt: skip
NO_CLASS_WORDS: Final = frozenset((
    "size", "width", "height", "count", "num", "number", "url", "uri", "path", "file", "filename", "time", "date",
    "source", "weight", "score", "confidence", "prob", "probability", "version", "annotator", "quality", "type",
    "mask", "box", "boxes", "bbox", "map",
))  # fmt: skip
FILE_NAMES: Final = ("filename", "file_name", "path", "image_path", "file_path")


def words_of(name: str) -> list[str]:
    """Return the words of a column's name: `className2` and `class_name-2` are `class`, `name`, `2`."""
    apart = re.sub(r"([a-z0-9])([A-Z])|([A-Za-z])([0-9])", r"\1\3 \2\4", name)
    return re.findall(r"[a-z]+|[0-9]+", apart.lower())


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


def says_none(label: str | None, names: Sequence[str]) -> bool:
    """Whether `input.columns.label` says that no column is the label: `none`, where no column is called so."""
    return label is not None and label.lower() == "none" and label not in names


def label_column(
    schema: pa.Schema, features: Mapping[str, Any], named: str | None, image: str, asks: bool = True
) -> str | None:
    """Return the label column; None where the recipe says `none`, or there is none.

    Raises:
        InputError: several could be it, its type is no label's, or a column looks like one by its name alone (`asks`).
    """
    label = named
    if says_none(named, schema.names):
        return None
    if label is None:
        others = [name for name in schema.names if name != image]
        classes = [name for name in others if is_feature(features.get(name), "ClassLabel")]
        label = _one(classes, (("label",), LABEL_NAMES), "label")
        if label is None:
            label = _one([name for name in others if name.lower() in LABEL_NAMES], (("label",),), "label")
        if label is None and asks:
            _ask_for_label([name for name in others if _is_class_like(schema.field(name))])
    if label is not None and label_kind(schema.field(label).type) is None:
        raise InputError(
            f"input.columns.label: column {label!r} is {schema.field(label).type}; a class is a text, a whole number "
            "or a boolean. Name another column, or carry it as it is with input.columns: {label: none}"
        )
    return label


def _is_class_like(field: pa.Field) -> bool:
    """Return whether a column is a class by a word in its name, and of a label's type."""
    words = set(words_of(field.name))
    return bool(words & CLASS_WORDS) and not words & NO_CLASS_WORDS and _is_class_type(field.type)


def _ask_for_label(likely: Sequence[str]) -> None:
    if likely:
        raise InputError(
            f"input.columns.label: no column is named like a label, but {', '.join(map(repr, likely))} "
            f"may hold classes; say input.columns: {{label: {likely[0]}}}, or {{label: none}} where there is no label"
        )


def _is_class_type(kind: pa.DataType) -> bool:
    kind = plain(kind)
    return bool(pa.types.is_integer(kind) or pa.types.is_boolean(kind) or is_string(kind))


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
