"""The common schema of all shards: their own columns, partition columns, and the types after promotion."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence

import pyarrow as pa

from pipeline.errors import InputError
from pipeline.shards.columns.column_types import HUGGINGFACE, read_features, shown_type
from pipeline.shards.columns.image_column import IMAGE_NAMES
from pipeline.shards.columns.label_column import LABEL_NAMES
from pipeline.shards.columns.type_promotion import plain_type, promoted_field
from pipeline.shards.files.discovery import Shard, read_schemas
from pipeline.shards.files.parquet_footer import constant_value
from pipeline.shards.files.partitions import partition_fields
from pipeline.shards.files.uris import filesystem


def shard_schemas(shards: Sequence[Shard]) -> list[tuple[Shard, pa.Schema]]:
    """Return every distinct schema, partition columns last, each with a shard that has it.

    A column may be in the shard and in its folder name, if the footer shows that it holds only the folder's value.

    Raises:
        InputError: a shard cannot be read, holds two columns of one name, or contradicts its folder.
    """
    stated = {field.name: field for field in partition_fields(shard.partitions for shard in shards)}
    found: dict[tuple[int, tuple[str, ...]], tuple[Shard, pa.Schema]] = {}
    for shard, schema in zip(shards, read_schemas(shards), strict=True):
        names = tuple(name for name, _ in shard.partitions)
        key = (id(schema), names)
        own = [name for name in names if name in schema.names]
        for name in own:
            _check_value(shard, name)
        if key not in found:
            _check_once(shard, schema)
            more = [stated[name] for name in names if name not in own]
            found[key] = (shard, pa.schema([*schema, *more], metadata=schema.metadata))
    return list(found.values())


def merged(distinct: Sequence[tuple[Shard, pa.Schema]]) -> pa.Schema:
    """Return the common schema of all, by the rules of `type_promotion`.

    Raises:
        InputError: a column of two of them has no type in common.
    """
    where, first = distinct[0]
    fields = {field.name: field.with_type(plain_type(field.type)) for field in first}
    seen = {name: (where, first.field(name).type) for name in fields}
    for shard, schema in distinct[1:]:
        for field in schema:
            mine = fields.get(field.name)
            if mine is None:
                fields[field.name] = field.with_type(plain_type(field.type)).with_nullable(True)
                seen[field.name] = (shard, field.type)
                continue
            both = promoted_field(mine, field)
            if both is None:
                raise _unlike(field.name, *seen[field.name], shard, field.type)
            if both.type != mine.type:
                seen[field.name] = (shard, field.type)
            fields[field.name] = both
        for name in fields.keys() - set(schema.names):
            fields[name] = fields[name].with_nullable(True)
    return pa.schema(list(fields.values()), metadata=_metadata(first, fields.values()))


def promoted_shards(shards: Sequence[Shard], shared: pa.Schema) -> frozenset[str]:
    """Return the paths of the shards whose rows are written with other columns or types than their own.

    Args:
        shared: the common schema; its column order and flags are those of the first shard.
    """
    stated = {field.name: field.type for field in partition_fields(shard.partitions for shard in shards)}
    schemas = read_schemas(shards)
    first = schemas[0]
    there = set(first.names)
    flags = any(field.nullable != first.field(field.name).nullable for field in shared if field.name in there)
    known: dict[tuple[int, tuple[str, ...]], bool] = {}
    found = set()
    for shard, schema in zip(shards, schemas, strict=True):
        key = (id(schema), tuple(name for name, _ in shard.partitions))
        if key not in known:
            own = {name: stated[name] for name in key[1]} | {field.name: plain_type(field.type) for field in schema}
            known[key] = flags or any(own.get(field.name) != field.type for field in shared)
        if known[key]:
            found.add(shard.path)
    return frozenset(found)


def _unlike(name: str, shard: Shard, kind: pa.DataType, other: Shard, their: pa.DataType) -> InputError:
    remedy = "write it alike in every shard"
    if name.lower() not in LABEL_NAMES + IMAGE_NAMES:
        remedy += f", or, if it is neither image nor label, leave it out with input.drop: [{name}]"
    return InputError(
        f"column {name!r} is {shown_type(kind)} in {shard.uri} and {shown_type(their)} in {other.uri}, and no type "
        f"holds both; {remedy}"
    )


def _check_once(shard: Shard, schema: pa.Schema) -> None:
    repeated = sorted(name for name, times in Counter(schema.names).items() if times > 1)
    if repeated:
        raise InputError(f"{shard.uri}: two columns are named {repeated[0]!r}; rename one")


def _check_value(shard: Shard, name: str) -> None:
    """Raise InputError unless a column holds only the value in the shard's folder name."""
    fs, path = filesystem(shard.uri)
    value = dict(shard.partitions)[name]
    held = constant_value(fs, path, shard.uri, name) if shard.rows else value
    said = str(held).lower() if isinstance(held, bool) else str(held)
    if held is None or said != value:
        raise InputError(
            f"{shard.uri}: it holds a column {name!r}, and its folder says {name}={value}; they are not known to be "
            "the same, so rename the folder or the column"
        )


def _metadata(first: pa.Schema, fields: Iterable[pa.Field]) -> dict[bytes, bytes] | None:
    """Return the first shard's metadata, without the features of plain columns whose type has changed."""
    features = dict(read_features(first))
    changed = [
        field.name
        for field in fields
        if field.name in features
        and field.type != first.field(field.name).type
        and features[field.name].get("_type", "Value") not in ("Image", "ClassLabel")
    ]
    if not changed:
        return first.metadata  # type: ignore[no-any-return]
    said = json.loads(first.metadata[HUGGINGFACE])
    for name in changed:
        del said["info"]["features"][name]
    return {**first.metadata, HUGGINGFACE: json.dumps(said).encode()}
