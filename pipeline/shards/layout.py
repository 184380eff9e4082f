"""What the columns of the input are: which holds the image, the label and the id, and what the classes are called.

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
from dataclasses import dataclass
from typing import Any, Final, Literal

import pyarrow as pa

from pipeline.errors import InputError
from pipeline.shards.column_types import (
    holds_binary,
    is_binary,
    is_feature,
    is_image_struct,
    is_string,
    plain,
    read_features,
)
from pipeline.shards.geometry import holds_boxes, is_mask
from pipeline.shards.locate import Shard, read_schemas
from schemas.recipe import Columns

ImageKind = Literal["bytes", "struct", "path"]

IMAGE_NAMES: Final = ("image", "img", "jpg", "jpeg", "png", "picture", "photo", "bytes")
PATH_NAMES: Final = ("image", "img", "path", "image_path", "file", "file_path", "filename", "file_name")
LABEL_NAMES: Final = ("label", "labels", "class", "category", "target", "y", "fine_label")
ID_NAMES: Final = ("image_id", "img_id", "sample_id", "uid", "uuid", "guid", "key", "__key__")
FILE_NAMES: Final = ("filename", "file_name", "path", "image_path", "file_path")


@dataclass(frozen=True)
class Layout:
    """The columns of the input. Picklable.

    `schema` is the input schema without dropped columns, metadata kept. `classes` are the class names by index, where
    the input says them. `boxes` are columns that hold boxes, masks, keypoints or polygons, which an operator that moves
    pixels would leave behind. `light` are the columns without binary data, and masks: what `where` and operators see.
    """

    image: str
    image_kind: ImageKind
    label: str | None
    id: str | None
    classes: tuple[str, ...] | None
    schema: pa.Schema
    boxes: tuple[str, ...]
    light: tuple[str, ...]


def read_layout(shards: Sequence[Shard], columns: Columns, drop: tuple[str, ...]) -> Layout:
    """Return the layout that all `shards` share, from their footers.

    Raises:
        InputError: a column that is named but not there, ambiguous or of a wrong type; no image column; or shards whose
            columns differ (apart from dropped ones, and from metadata).
    """
    if not shards:
        raise InputError("input.uri: there is no shard to read the columns from")
    schemas = read_schemas(shards)
    distinct = list({id(schema): (shard, schema) for shard, schema in zip(shards, schemas, strict=True)}.values())
    first = _kept(schemas[0], columns, drop)
    for shard, schema in distinct:
        _check_same(shards[0], first, shard, _without(schema, drop))
    features = read_features(first)
    image = _image_column(first, features, columns.image)
    label = _label_column(first, features, columns.label, image)
    return Layout(
        image=image,
        image_kind=_image_kind(first.field(image)),
        label=label,
        id=_id_column(first, columns.id, (image, label)),
        classes=None if label is None else _shared_classes(distinct, label),
        schema=first,
        boxes=tuple(field.name for field in first if field.name != image and holds_boxes(field, features)),
        light=tuple(f.name for f in first if not holds_binary(f.type) or (f.name != image and is_mask(f))),
    )


def _kept(schema: pa.Schema, columns: Columns, drop: tuple[str, ...]) -> pa.Schema:
    """Return the first shard's schema without the dropped columns, having checked every name the recipe mentions."""
    for name in drop:
        _check_there("input.drop", name, schema.names)
    kept = _without(schema, drop)
    for role, wanted in columns.model_dump().items():
        if wanted is not None and wanted in drop:
            raise InputError(f"input.drop: {wanted!r} is also input.columns.{role}; take it out of one of them")
        if wanted is not None:
            _check_there(f"input.columns.{role}", wanted, kept.names)
    return kept


def _without(schema: pa.Schema, drop: tuple[str, ...]) -> pa.Schema:
    return pa.schema([field for field in schema if field.name not in drop], metadata=schema.metadata)


def _check_there(where: str, name: str, names: Sequence[str]) -> None:
    if name not in names:
        near = difflib.get_close_matches(name, names, 1, cutoff=0.5)
        hint = f", did you mean {near[0]!r}?" if near else ";"
        raise InputError(f"{where}: there is no column {name!r}{hint} The columns are: {', '.join(names)}")


def _check_same(shard: Shard, schema: pa.Schema, other: Shard, theirs: pa.Schema) -> None:
    """Raise InputError at the first column that two shards do not share by name and type, or that one holds twice."""
    repeated = sorted({name for name in theirs.names if theirs.names.count(name) > 1})
    if repeated:
        raise InputError(f"{other.uri}: two columns are named {repeated[0]!r}; rename one")
    types, other_types = ({field.name: str(field.type) for field in found} for found in (schema, theirs))
    for name in [*types, *other_types]:
        here, there = types.get(name, "absent"), other_types.get(name, "absent")
        if here != there:
            raise InputError(
                f"column {name!r} is {here} in {shard.uri} and {there} in {other.uri}; make the shards alike, "
                f"or leave the column out with input.drop: [{name}]"
            )


def _image_column(schema: pa.Schema, features: Mapping[str, Any], named: str | None) -> str:
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


def _image_kind(field: pa.Field) -> ImageKind:
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


def _label_column(schema: pa.Schema, features: Mapping[str, Any], named: str | None, image: str) -> str | None:
    label = named
    if label is None:
        others = [name for name in schema.names if name != image]
        classes = [name for name in others if is_feature(features.get(name), "ClassLabel")]
        label = _one(classes, (("label",), LABEL_NAMES), "label")
        if label is None:
            label = _one([name for name in others if name.lower() in LABEL_NAMES], (("label",),), "label")
    if label is not None:
        kind = plain(schema.field(label).type)
        if not (pa.types.is_integer(kind) or pa.types.is_boolean(kind) or is_string(kind)):
            raise InputError(
                f"input.columns.label: column {label!r} is {kind}; a label is an integer, a string or a boolean. Name "
                f"another column, or leave it out with input.drop: [{label}]"
            )
    return label


def _id_column(schema: pa.Schema, named: str | None, taken: Sequence[str | None]) -> str | None:
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


def _shared_classes(distinct: Sequence[tuple[Shard, pa.Schema]], label: str) -> tuple[str, ...] | None:
    """Return the class names that the shards state. The same index under two names would mislabel without a sound."""
    named = [(shard, _class_names(read_features(schema).get(label))) for shard, schema in distinct]
    stated = [(shard, names) for shard, names in named if names is not None]
    if not stated:
        return None
    first, classes = stated[0]
    for shard, names in stated:
        if names != classes:
            raise InputError(
                f"column {label!r}: the classes are {', '.join(classes)} in {first.uri} and {', '.join(names)} in "
                f"{shard.uri}; give the shards one order of classes"
            )
    return classes


def _class_names(feature: Any) -> tuple[str, ...] | None:
    """Return the names of a ClassLabel feature by index; None where it has none."""
    if not is_feature(feature, "ClassLabel"):
        return None
    names = feature.get("names")
    if isinstance(names, dict):
        names = [names[key] for key in sorted(names, key=int)]
    return tuple(str(name) for name in names) if names else None
