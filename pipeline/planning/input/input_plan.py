"""Reading the input for a plan: shards, columns, splits, and what else the bytes of a unit depend on."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa

from pipeline.errors import InputError
from pipeline.messages import listed
from pipeline.planning.recipe_file import absolute
from pipeline.shards.columns.class_table import label_kind
from pipeline.shards.columns.column_types import listed_names, read_features
from pipeline.shards.columns.label_values import read_label_values
from pipeline.shards.columns.layout import Layout, read_layout
from pipeline.shards.columns.shared_schema import promoted_shards
from pipeline.shards.files.discovery import Shard, find_input
from pipeline.shards.files.listing import Skipped
from pipeline.shards.files.splits import SPLIT, called, may_be_split_column, rows_by_split, split_names, splits_of
from schemas.recipe import Input

ALL: Final = "all"
"""Value of `input.split` that takes all splits."""
OTHER_SPLIT: Final = "of another split than input.split"


@dataclass(frozen=True)
class InputPlan:
    """The input, resolved.

    `row_identities` maps the path of a shard to what its rows depend on beside the file: the values that its folders
    state, and the types that its columns were promoted to. A shard with neither is not in it. `splits` maps each split
    to its number of rows (None: rows in no split). `where` is the condition that `input.split` adds to every branch,
    where a column states the splits.
    """

    shards: tuple[Shard, ...]
    layout: Layout
    skipped: Skipped = field(default_factory=Skipped)
    row_identities: Mapping[str, list[Any]] = field(default_factory=dict)
    splits: Mapping[str | None, int] = field(default_factory=dict)
    where: str | None = None

    def narrowed(self, where: str | None) -> str | None:
        """Return a branch's condition combined with that of `input.split`."""
        if self.where is None or where is None:
            return self.where if where is None else where
        return f"({where}) and {self.where}"


def read_input(wanted: Input, base: str, wheres: Sequence[str | None] = ()) -> InputPlan:
    """Find the shards and columns that a recipe's `input` stands for; relative URIs start at `base`.

    Args:
        wheres: conditions of the branches with source rows; if all use the split column, `input.split` may be absent.

    Raises:
        InputError: one line that names what is wrong.
    """
    found = find_input([absolute(uri, base) for uri in uris_of(wanted)], base)
    stated = splits_of(found.shards)
    splits = rows_by_split(found.shards, stated) if any(split is not None for split in stated) else {}
    name = _split_to_take(wanted.split, splits, _all_use(SPLIT, wheres)) if splits else None
    shards = tuple(shard for shard, split in zip(found.shards, stated, strict=True) if name in (None, split))
    for shard, split in zip(found.shards, stated, strict=True):
        if name not in (None, split):
            found.skipped.add(OTHER_SPLIT, shard.path)
    if not any(shard.rows for shard in shards):
        raise InputError(f"input.split: {wanted.split}: its shards hold no row")
    layout = read_layout(shards, wanted.columns, wanted.drop, named=wanted.class_names is not None)
    column, by_value = _column_splits(shards, layout)
    within = _rows_by_name(by_value)
    where = None
    if within and (not splits or len(within) > 1):
        splits = within
        name = _split_to_take(wanted.split, splits, _all_use(column, wheres), f"column {column!r}")
        values = [value for value, (split, _) in by_value.items() if split is not None and split == name]
        where = _condition(column, values) if name is not None and len(splits) > 1 else None
    elif not splits and wanted.split not in (None, ALL):
        raise InputError(
            f"input.split: {wanted.split}: no folder, file name or column {SPLIT!r} of the input says a split; "
            "leave it out"
        )
    return InputPlan(shards, layout, found.skipped, _identities(shards, layout), splits, where)


def unlabelled_note(found: InputPlan, wanted: Input) -> tuple[str, ...]:
    """Return a note if no column is the label, and folders or file names of shards may be classes."""
    if found.layout.label is not None or wanted.columns.label is not None or len(found.shards) < 2:
        return ()
    folders = {shard.path.split("/")[-2] if "/" in shard.path else "" for shard in found.shards}
    plain = all(re.fullmatch(r"[^\W\d]+(?:[-_ ][^\W\d]+)*", name) for name in folders)
    if len(folders) < 2 or not plain or any("=" in name or called(name) != name for name in folders):
        return ()
    first = sorted(folders)[0]
    return (
        f"no column is the label, and the shards lie in folders {listed(sorted(folders))}: where these are classes, "
        f"rename them (label={first}, ...); where not, say input.columns: {{label: none}}",
    )


def unsplit_note(found: InputPlan, wanted: Input) -> tuple[str, ...]:
    """Return a note if rows in no split are taken together with rows of a split."""
    names = [split for split in found.splits if split is not None]
    if wanted.split is not None or None not in found.splits or len(names) != 1:
        return ()
    return (
        f"rows in no split: {found.splits[None]:,}, beside {found.splits[names[0]]:,} of {names[0]}, and taken as "
        f"these are; say input.split: {names[0]} for those alone, or {ALL}",
    )


def uris_of(wanted: Input) -> tuple[str, ...]:
    """Return the URIs of an input, one or several."""
    return (wanted.uri,) if isinstance(wanted.uri, str) else wanted.uri


def _split_to_take(
    wanted: str | None, splits: Mapping[str | None, int], chosen: bool, source: str = "the input"
) -> str | None:
    """Return the split to take; None for all rows. `source`: where the splits were found, for the message."""
    names = [split for split in splits if split is not None]
    found = ", ".join(f"{split} ({splits[split]:,} rows)" for split in names[:6])
    if wanted == ALL or (wanted is None and (chosen or len(names) < 2)):
        return None
    if wanted is None:
        first = "train" if "train" in names else names[0]
        raise InputError(f"input.split: {source} has several splits, {found}; say input.split: {first}, or {ALL}")
    if called(wanted) not in names:
        raise InputError(f"input.split: {wanted}: there is no such split; there are {found}")
    return called(wanted)


def _all_use(column: str, wheres: Sequence[str | None]) -> bool:
    """Return whether the conditions of all branches use a column."""
    named = re.compile(rf"(?<!\w){re.escape(column)}(?!\w)")
    return bool(wheres) and all(where is not None and named.search(where) for where in wheres)


def _condition(column: str, values: Sequence[Any]) -> str:
    name = column if column.isidentifier() else f"`{column}`"
    return f"{name} in ({', '.join(map(repr, values))}{',' if len(values) == 1 else ''})"


def _column_splits(shards: Sequence[Shard], layout: Layout) -> tuple[str, dict[Any, tuple[str | None, int]]]:
    """Return the split column and {value: (split, rows)}; empty if no column holds splits."""
    taken = (layout.image, layout.label, layout.id)
    names = [name for name in layout.light if name not in taken and may_be_split_column(name)]
    features = read_features(layout.schema)
    for name in sorted(names, key=lambda name: name.lower() != SPLIT):
        kind: pa.DataType = layout.schema.field(name).type
        if label_kind(kind) not in ("text", "whole", "truth"):
            continue
        try:
            rows = read_label_values(shards, name, kind).rows
        except InputError:  # more values than any data set has splits
            continue
        if called_so := split_names(name, rows, listed_names(features.get(name))):
            return name, {value: (called_so.get(value), count) for value, count in rows.items()}
    return SPLIT, {}


def _rows_by_name(by_value: Mapping[Any, tuple[str | None, int]]) -> dict[str | None, int]:
    rows: dict[str | None, int] = {}
    for split, count in by_value.values():
        rows[split] = rows.get(split, 0) + count
    return rows


def _identities(shards: Sequence[Shard], layout: Layout) -> dict[str, list[Any]]:
    types = [[field.name, str(field.type), field.nullable] for field in layout.schema]
    promoted = promoted_shards(shards, layout.schema)
    made: dict[str, list[Any]] = {}
    for shard in shards:
        if shard.partitions:
            made.setdefault(shard.path, []).append({"folders": [list(pair) for pair in shard.partitions]})
        if shard.path in promoted:
            made.setdefault(shard.path, []).append({"columns": types})
    return made
