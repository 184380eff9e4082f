"""What the columns of the input are: which holds the image, the label and the id, and what the classes are called."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.errors import InputError
from pipeline.shards.column_types import (
    holds_binary,
    is_feature,
    read_features,
)
from pipeline.shards.columns import ImageKind, check_there, id_column, image_column, image_kind, label_column
from pipeline.shards.geometry import holds_boxes, is_mask
from pipeline.shards.locate import Shard, read_schemas
from schemas.recipe import Columns


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
    image = image_column(first, features, columns.image)
    label = label_column(first, features, columns.label, image)
    return Layout(
        image=image,
        image_kind=image_kind(first.field(image)),
        label=label,
        id=id_column(first, columns.id, (image, label)),
        classes=None if label is None else _shared_classes(distinct, label),
        schema=first,
        boxes=tuple(field.name for field in first if field.name != image and holds_boxes(field, features)),
        light=tuple(f.name for f in first if not holds_binary(f.type) or (f.name != image and is_mask(f))),
    )


def _kept(schema: pa.Schema, columns: Columns, drop: tuple[str, ...]) -> pa.Schema:
    """Return the first shard's schema without the dropped columns, having checked every name the recipe mentions."""
    for name in drop:
        check_there("input.drop", name, schema.names)
    kept = _without(schema, drop)
    for role, wanted in columns.model_dump().items():
        if wanted is not None and wanted in drop:
            raise InputError(f"input.drop: {wanted!r} is also input.columns.{role}; take it out of one of them")
        if wanted is not None:
            check_there(f"input.columns.{role}", wanted, kept.names)
    return kept


def _without(schema: pa.Schema, drop: tuple[str, ...]) -> pa.Schema:
    return pa.schema([field for field in schema if field.name not in drop], metadata=schema.metadata)


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
