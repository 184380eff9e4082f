"""Output rows as Arrow tables: the image, the input's columns, and the lineage columns."""

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from schemas.images import IMAGE, LINEAGE, QUARANTINE, RESERVED


@dataclass(frozen=True)
class RowSchema:
    """The Arrow schemas of one data set's files, from its input's schema.

    Args:
        source: the input schema, or None where there is no input.
        image, label: names of its image and label columns.
        classes: names of its classes by index.
    """

    source: pa.Schema | None
    image: str | None
    label: str | None
    classes: Sequence[str] = ()

    @cached_property
    def kept(self) -> list[tuple[str, str]]:
        """Return (input column, output column): every input column but the image; a clashing name is prefixed."""
        if self.source is None:
            return []
        names = [name for name in self.source.names if name != self.image and not name == self.label == "label"]
        return _renamed([(name, name) for name in names], RESERVED)

    @property
    def label_type(self) -> pa.DataType:
        return self._stored("label", self._source_label_type)

    @property
    def _source_label_type(self) -> pa.DataType:
        return self.source.field(self.label).type if self.source is not None and self.label else pa.int64()

    @cached_property
    def accepted(self) -> pa.Schema:
        """Return the schema of `data/`."""
        fields = [pa.field("image", IMAGE), pa.field("label", self.label_type)]
        if self.source is not None:
            for name, target in self.kept:
                own = self.source.field(name)
                fields.append(own.with_name(target).with_nullable(True).with_type(self._stored(target, own.type)))
        metadata = {"huggingface": json.dumps({"info": {"features": self._features}}, sort_keys=True)}
        return pa.schema([*fields, *LINEAGE], metadata=metadata)

    def _stored(self, column: str, source_type: pa.DataType) -> pa.DataType:
        """Return the type of an output column: integers with class names become int64, as `datasets` requires."""
        feature = self._features.get(column)
        named = isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        return pa.int64() if named and pa.types.is_integer(source_type) else source_type

    @cached_property
    def rejected(self) -> pa.Schema:
        """Return the schema of `rejected/`: that of `data/` and the reason."""
        return self.accepted.append(pa.field("rejected_reason", pa.string()))

    @cached_property
    def _features(self) -> dict[str, Any]:
        """Hugging Face features of the output columns: the image, the class names, and those the input declares."""
        features: dict[str, Any] = {"image": {"_type": "Image"}}
        known = input_features(self.source)
        if self.label and self.label in known:
            features["label"] = known[self.label]
        feature = features.get("label")
        declared = feature.get("names") if isinstance(feature, dict) else None
        named = declared is not None or pa.types.is_integer(self._source_label_type)
        if self.classes and named and not _same(declared, self.classes):  # the recipe, or other metadata, says else
            features["label"] = {"_type": "ClassLabel", "names": list(self.classes)}
        return features | {target: known[name] for name, target in self.kept if name in known}


def _same(declared: Any, names: Sequence[str]) -> bool:
    if isinstance(declared, dict):
        by_index = {str(key): name for key, name in declared.items()}
        declared = [by_index.get(str(index)) for index in range(len(declared))]
    return isinstance(declared, list) and [str(name) for name in declared] == list(names)


def _renamed(columns: Sequence[tuple[str, str]], reserved: Iterable[str]) -> list[tuple[str, str]]:
    """Prefix every (input, output) column whose output name is reserved with `input_`, as often as it takes."""
    taken = set(reserved)
    free = {output for _, output in columns} - taken  # these keep their names
    renamed = []
    for name, output in columns:
        target = output
        while target in taken or (target != output and target in free):
            target = f"input_{target}"
        taken.add(target)
        renamed.append((name, target))
    return renamed


def input_features(schema: pa.Schema | None) -> dict[str, Any]:
    """Return the Hugging Face features that a schema's metadata declares, by column; empty where it says none."""
    text = None if schema is None else (schema.metadata or {}).get(b"huggingface")
    if text is None:
        return {}
    try:
        features = json.loads(text)["info"]["features"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return features if isinstance(features, dict) else {}


def output_table(
    schema: RowSchema,
    window: pa.Table | None,
    sources: Sequence[int],
    columns: Mapping[str, Sequence[Any] | pa.Array],
    rejected: bool,
) -> pa.Table:
    """Return output rows as a table.

    Args:
        window: the source rows, or None for synthesis.
        sources: index of the source row of each output row in the window.
        columns: values of `image`, `label` and every lineage column that is not null throughout; for a list of structs,
            a sequence of mappings a row.
    """
    target = schema.rejected if rejected else schema.accepted
    own: dict[str, pa.Array] = {}
    if window is None and schema.source is not None:
        own = {output: pa.nulls(len(sources), schema.source.field(name).type) for name, output in schema.kept}
    elif window is not None:
        taken = _taken(window, [name for name, _ in schema.kept], sources)
        own = {output: taken.column(name).combine_chunks() for name, output in schema.kept}
    arrays = []
    for field in target:
        if field.name in own:
            arrays.append(own[field.name].cast(field.type))
        elif field.name in columns:
            arrays.append(_array(columns[field.name], field.type))
        else:
            arrays.append(pa.nulls(len(sources), field.type))
    return pa.Table.from_arrays(arrays, schema=target)


def _array(values: Sequence[Any] | pa.Array, kind: pa.DataType) -> pa.Array:
    """Return values as an array of a type; structs in lists column by column, since Arrow takes dicts slowly."""
    if isinstance(values, pa.Array):
        return values
    if not (pa.types.is_list(kind) and pa.types.is_struct(kind.value_type)) or None in values:
        return pa.array(values, kind)
    items = [item for row in values for item in row]
    fields = [pa.array([item.get(field.name) for item in items], field.type) for field in kind.value_type]
    ends = itertools.accumulate(map(len, values), initial=0)
    structs = pa.StructArray.from_arrays(fields, fields=list(kind.value_type))
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), structs, type=kind)


def image_array(images: Sequence[bytes | None], names: Sequence[str | None]) -> pa.Array:
    """Return encoded images and their names as the column `image`."""
    parts = [pa.array(images, IMAGE.field("bytes").type), pa.array(names, IMAGE.field("path").type)]
    return pa.StructArray.from_arrays(parts, fields=list(IMAGE))


def _taken(window: pa.Table, names: Sequence[str], chosen: Sequence[int]) -> pa.Table:
    """Return the source rows of some output rows; never the image, whose bytes would be copied for nothing."""
    columns = window.select(names)
    return columns if list(chosen) == list(range(len(window))) else columns.take(pa.array(chosen, pa.int64()))


def quarantine_table(schema: RowSchema, window: pa.Table, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return quarantined source rows as a table: their own columns, their bytes, and the error."""
    own_label = [("label", "label")] if schema.label == "label" else []
    kept = _renamed([*schema.kept, *own_label], [field.name for field in QUARANTINE])
    taken = _taken(window, [name for name, _ in kept], [row["source"] for row in rows])
    own = {output: taken.column(name).combine_chunks() for name, output in kept}
    own_fields = [window.schema.field(name).with_name(output).with_nullable(True) for name, output in kept]
    metadata = {"huggingface": json.dumps({"info": {"features": {}}})}
    target = pa.schema([*QUARANTINE, *own_fields], metadata=metadata)
    arrays = [
        own[field.name] if field.name in own else pa.array([row.get(field.name) for row in rows], field.type)
        for field in target
    ]
    return pa.Table.from_arrays(arrays, schema=target)
