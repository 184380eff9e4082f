"""Which column of the input is the label, and which is the id. (`image_column`: which is the image.)

Columns the recipe does not name are found by these rules, tier by tier; the first tier that has a candidate decides.

    column   tiers, in order                                                          preferred where a tier has several
    ───────  ───────────────────────────────────────────────────────────────────────  ──────────────────────────────────
    label    Hugging Face `ClassLabel` feature; a column named as in LABEL_NAMES      `label`, then LABEL_NAMES
    id       `id`; a string or integer named as in ID_NAMES; as in FILE_NAMES

Names are compared without regard to case. Two candidates left in a tier are an error that asks for the name: nothing is
guessed. Input without a label column is unlabelled, unless a column looks like one by a word of its name (CLASS_WORDS):
that is an error that asks.
"""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from pipeline.errors import InputError
from pipeline.shards.columns.class_table import label_kind
from pipeline.shards.columns.column_types import is_feature, is_string, listed_names, plain
from pipeline.shards.columns.first_values import FirstValues
from pipeline.shards.columns.image_column import one_of
from pipeline.shards.files.name_words import split_words
from pipeline.shards.files.splits import split_names

LABEL_NAMES: Final = ("label", "labels", "class", "category", "target", "y", "fine_label")
ID_NAMES: Final = ("image_id", "img_id", "sample_id", "uid", "uuid", "guid", "key", "__key__")
CLASS_WORDS: Final = frozenset((
    "label", "labels", "class", "classes", "classname", "cls", "category", "categories", "categoryid", "target",
    "species", "breed", "genus", "family", "scientific", "taxon", "variety", "cultivar", "wnid", "synset", "subclass",
    "superclass", "subcategory", "supercategory", "classification", "diagnosis", "dx", "disease", "pathology", "defect",
    "emotion", "genre", "digit", "gt", "groundtruth", "classid", "labelid", "classidx", "labelidx", "classlabel",
    "labelname",
))  # fmt: skip
NO_CLASS_WORDS: Final = frozenset((
    "size", "width", "height", "count", "num", "number", "url", "uri", "path", "file", "filename", "time", "date",
    "source", "weight", "score", "confidence", "prob", "probability", "version", "annotator", "quality", "type",
    "mask", "box", "boxes", "bbox", "map",
))  # fmt: skip
FILE_NAMES: Final = ("filename", "file_name", "path", "image_path", "file_path")


def check_column_exists(where: str, name: str, names: Sequence[str]) -> None:
    if name not in names:
        near = difflib.get_close_matches(name, names, 1, cutoff=0.5)
        hint = f", did you mean {near[0]!r}?" if near else ";"
        raise InputError(f"{where}: there is no column {name!r}{hint} The columns are: {', '.join(names)}")


def is_unlabelled(label: str | None, names: Sequence[str]) -> bool:
    """Return whether `input.columns.label` is `none` and no column has that name: then there is no label."""
    return label is not None and label.lower() == "none" and label not in names


def label_column(
    schema: pa.Schema,
    features: Mapping[str, Any],
    named: str | None,
    image: str,
    values: FirstValues,
    strict: bool = True,
) -> str | None:
    """Return the label column; None if the recipe says `none`, or there is none.

    Raises:
        InputError: several could be it, its type is no label's, or, if `strict`, a column looks like one by name.
    """
    label = named
    if is_unlabelled(named, schema.names):
        return None
    if label is None:
        others = [name for name in schema.names if name != image]
        classes = [
            name
            for name in others
            if is_feature(features.get(name), "ClassLabel") and not _names_splits(name, features[name])
        ]
        label = one_of(classes, (("label",), LABEL_NAMES), "label")
        if label is None:
            label = one_of([name for name in others if name.lower() in LABEL_NAMES], (("label",),), "label")
        if label is None and strict:
            _ask_for_label(schema, others, values)
    if label is not None and label_kind(schema.field(label).type) is None:
        raise InputError(
            f"input.columns.label: column {label!r} is {schema.field(label).type}; a class is a text, a whole number "
            "or a boolean. Name another column, or carry it as it is with input.columns: {label: none}"
        )
    return label


def _names_splits(name: str, feature: Any) -> bool:
    """Return whether the class names of a column are splits, so that it is no label."""
    names = listed_names(feature)
    return bool(split_names(name, range(len(names)), names))


def _ask_for_label(schema: pa.Schema, others: Sequence[str], values: FirstValues) -> None:
    """Raise InputError if a column may be the label by a word of its name, or is a struct with a label in it."""
    likely = [name for name in others if _is_class_like(schema.field(name), values)]
    if likely:
        raise InputError(
            f"input.columns.label: no column is named like a label, but {', '.join(map(repr, likely))} "
            f"may hold classes; say input.columns: {{label: {likely[0]}}}, or {{label: none}} where there is no label"
        )
    for name in others:
        kind = schema.field(name).type
        inner = [kind.field(place) for place in range(kind.num_fields)] if pa.types.is_struct(kind) else []
        for field in inner:
            if field.name.lower() in LABEL_NAMES and _is_class_type(field.type):
                raise InputError(
                    f"input.columns.label: no column is named like a label, but {name!r} holds a field {field.name!r}; "
                    "write it to a column of its own, or say input.columns: {label: none} where there is no label"
                )


def _is_class_like(field: pa.Field, values: FirstValues) -> bool:
    """Return whether a column may be the label: a word of its name, and a type that holds classes."""
    words = set(split_words(field.name))
    if not words & CLASS_WORDS or words & NO_CLASS_WORDS:
        return False
    if pa.types.is_floating(plain(field.type)):
        first = [value for value in values(field.name) if value == value]
        return bool(first) and all(float(value).is_integer() for value in first)
    return _is_class_type(field.type)


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
        found = one_of([name for name in free if name.lower() in names], (), "id")
        if found is not None:
            return found
    return None
