"""What the columns of the input are: which holds the image, the label and the id, and what the classes are called."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import pyarrow as pa

from pipeline.errors import InputError
from pipeline.shards.class_names import stated_names
from pipeline.shards.classes import ClassTable, LabelKind, label_kind
from pipeline.shards.column_types import (
    holds_binary,
    read_features,
)
from pipeline.shards.columns import ImageKind, check_there, id_column, image_column, image_kind, label_column, says_none
from pipeline.shards.geometry import is_mask
from pipeline.shards.locate import Shard, read_schemas
from schemas.recipe import Columns


@dataclass(frozen=True)
class Layout:
    """The columns of the input. Picklable.

    `schema` is the input schema without dropped columns, metadata kept. `classes` are the class names by index, where
    the input or the recipe says them or labels are text; `class_origin` says what named them. `light` are the columns
    without binary data, and masks: what `where` and operators see.
    """

    image: str
    image_kind: ImageKind
    label: str | None
    id: str | None
    classes: tuple[str, ...] | None
    schema: pa.Schema
    light: tuple[str, ...]
    class_origin: str | None = None

    @property
    def carried_label(self) -> str | None:
        """The input column that becomes the output's `label`: the label, or where there is none one of that name."""
        if self.label is None and self.image != "label" and "label" in self.schema.names:
            return "label"
        return self.label

    @cached_property
    def table(self) -> ClassTable:
        """From stored labels to class indexes and back."""
        kind: LabelKind | None = "whole" if self.carried_label is None else "none"
        if self.label is not None:
            kind = label_kind(self.schema.field(self.label).type)
        return ClassTable(self.classes or (), kind or "none")

    def named(self, names: Sequence[str], origin: str | None) -> "Layout":
        """Return this layout with other class names."""
        return replace(self, classes=tuple(names) or None, class_origin=origin if names else None)


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
    stated = None if label is None else stated_names(distinct, label)
    return Layout(
        image=image,
        image_kind=image_kind(first.field(image)),
        label=label,
        id=id_column(first, columns.id, (image, label)),
        classes=stated.names if stated else None,
        schema=first,
        light=tuple(f.name for f in first if not holds_binary(f.type) or (f.name != image and is_mask(f))),
        class_origin=stated.origin if stated else None,
    )


def _kept(schema: pa.Schema, columns: Columns, drop: tuple[str, ...]) -> pa.Schema:
    """Return the first shard's schema without the dropped columns, having checked every name the recipe mentions."""
    for name in drop:
        check_there("input.drop", name, schema.names)
    kept = _without(schema, drop)
    for role, wanted in columns.model_dump().items():
        if role == "label" and says_none(wanted, kept):
            continue
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
