"""The columns of the input: which is the image, the label and the id, and what the classes are called."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import cast

import pyarrow as pa

from pipeline.errors import InputError
from pipeline.messages import error_line, short_repr
from pipeline.shards.columns.annotation_columns import is_mask
from pipeline.shards.columns.class_metadata import read_class_names
from pipeline.shards.columns.class_table import ClassTable, LabelKind, label_kind
from pipeline.shards.columns.column_types import holds_binary, read_features
from pipeline.shards.columns.first_values import first_values
from pipeline.shards.columns.image_column import ImageKind, image_column, image_kind
from pipeline.shards.columns.label_column import check_column_exists, id_column, is_unlabelled, label_column
from pipeline.shards.columns.shared_schema import merged, shard_schemas
from pipeline.shards.files.discovery import Shard
from schemas.manifest import InputRecord
from schemas.recipe import Columns


@dataclass(frozen=True)
class Layout:
    """The columns of the input. Can be pickled.

    `schema` is the Arrow schema without dropped columns, with metadata. `classes` are the class names by index, if the
    input or the recipe has them, or labels are text; `class_source` tells where they are from. `light` are the columns
    that `where` and operators can read: those without binary data, and masks.
    """

    image: str
    image_kind: ImageKind
    label: str | None
    id: str | None
    classes: tuple[str, ...] | None
    schema: pa.Schema
    light: tuple[str, ...]
    class_source: str | None = None

    @property
    def carried_label(self) -> str | None:
        """The input column that becomes `label` in the output: the label, else a column of that name."""
        if self.label is None and self.image != "label" and "label" in self.schema.names:
            return "label"
        return self.label

    @cached_property
    def table(self) -> ClassTable:
        """The table of stored labels and class indexes."""
        kind: LabelKind | None = "whole" if self.carried_label is None else "none"
        if self.label is not None:
            kind = label_kind(self.schema.field(self.label).type)
        return ClassTable(self.classes or (), kind or "none")

    def named(self, names: Sequence[str], origin: str | None) -> "Layout":
        """Return this layout with other class names."""
        return replace(self, classes=tuple(names) or None, class_source=origin if names else None)


def read_layout(
    shards: Sequence[Shard],
    columns: Columns,
    drop: tuple[str, ...],
    recorded: InputRecord | None = None,
    strict: bool = True,
    named: bool = False,
) -> Layout:
    """Return the layout of all `shards`, from their footers, first rows and folder names.

    Args:
        recorded: the columns that an earlier run used, to read some of its shards again.
        strict: a further column that may be meant is an error. False for the shards of an earlier run.
        named: class names come from elsewhere, so that broken ones in the metadata are no error.

    Raises:
        InputError: a column that is named but not there, ambiguous or of a wrong type; no image column; or shards whose
            columns cannot be made one (apart from dropped ones, and from metadata).
    """
    if not shards:
        raise InputError("input.uri: there is no shard to read the columns from")
    distinct = shard_schemas(shards)
    if recorded is not None:
        schema = _recorded_schema(recorded)
        image, label, name = recorded.image, recorded.label, recorded.id
        kind = cast(ImageKind, recorded.image_kind)
    else:
        _check_named([schema for _, schema in distinct], columns, drop)
        schema = merged([(shard, _without(schema, drop)) for shard, schema in distinct])
        features = read_features(schema)
        values = first_values(shards)
        image = image_column(schema, features, columns.image, values, strict)
        kind = image_kind(schema.field(image), values)
        for shard, own in distinct:
            if image not in own.names and shard.rows:
                raise InputError(f"{shard.uri}: it has no column {image!r}, the image of other shards; take it out")
        label = label_column(schema, features, columns.label, image, values, strict)
        name = id_column(schema, columns.id, (image, label))
    stated = None
    if label is not None:
        own_label = [pair for pair in distinct if label in pair[1].names]
        stated = read_class_names(own_label, label, named or recorded is not None)
    return Layout(
        image=image,
        image_kind=kind,
        label=label,
        id=name,
        classes=stated.names if stated else None,
        schema=schema,
        light=tuple(f.name for f in schema if _is_light(f, image, kind)),
        class_source=stated.origin if stated else None,
    )


def _recorded_schema(recorded: InputRecord) -> pa.Schema:
    """Return the schema that a manifest records. Raises InputError if it cannot be read."""
    try:
        schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(recorded.columns)))
    except (ValueError, OSError, pa.ArrowException) as error:
        raise InputError(f"the manifest's record of the input's columns cannot be read: {error_line(error)}") from None
    for name in (recorded.image, recorded.label, recorded.id):
        if name is not None and schema.names.count(name) != 1:
            raise InputError(f"the manifest's record of the input names no column {short_repr(name)}")
    return schema


def _is_light(field: pa.Field, image: str, kind: ImageKind) -> bool:
    """Return whether a column is light: no image data, or a mask. Paths of images are light, images as text are not."""
    if field.name == image:
        return kind == "path"
    return not holds_binary(field.type) or is_mask(field)


def record_of(layout: Layout) -> InputRecord:
    """Return the record of a layout for the manifest, which `read_layout` takes as `recorded`."""
    return InputRecord(
        columns=base64.b64encode(layout.schema.serialize()).decode(),
        image=layout.image,
        image_kind=layout.image_kind,
        label=layout.label,
        id=layout.id,
    )


def _check_named(schemas: Sequence[pa.Schema], columns: Columns, drop: tuple[str, ...]) -> None:
    """Raise InputError if the recipe names a column that no shard has."""
    names = list(dict.fromkeys(name for schema in schemas for name in schema.names))
    for name in drop:
        check_column_exists("input.drop", name, names)
    for role, wanted in columns.model_dump().items():
        if role == "label" and is_unlabelled(wanted, names):
            continue
        if wanted is not None and wanted in drop:
            raise InputError(f"input.drop: {wanted!r} is also input.columns.{role}; take it out of one of them")
        if wanted is not None:
            check_column_exists(f"input.columns.{role}", wanted, [name for name in names if name not in drop])


def _without(schema: pa.Schema, drop: tuple[str, ...]) -> pa.Schema:
    return pa.schema([field for field in schema if field.name not in drop], metadata=schema.metadata)
