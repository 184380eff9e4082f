"""The input as `plan` reads it: shards, columns, and what beside them a unit's bytes depend on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.planning.recipes import absolute
from pipeline.shards.layout import Layout, read_layout
from pipeline.shards.listing import Passed
from pipeline.shards.locate import Shard, find_input
from pipeline.shards.shared_schema import promoted_shards
from schemas.recipe import Input


@dataclass(frozen=True)
class InputPlan:
    """The input, resolved.

    `identities` are, by the path of a shard, what its rows are made of beside its own bytes: values that its folders
    state, and the columns it was promoted to; a shard that has neither is not in it.
    """

    shards: tuple[Shard, ...]
    layout: Layout
    passed: Passed = field(default_factory=Passed)
    identities: Mapping[str, list[Any]] = field(default_factory=dict)


def read_input(wanted: Input, base: str) -> InputPlan:
    """Find the shards and columns that a recipe's `input` stands for; relative URIs start at `base`.

    Raises:
        InputError: one line that names what is wrong.
    """
    found = find_input([absolute(uri, base) for uri in uris_of(wanted)], base)
    layout = read_layout(found.shards, wanted.columns, wanted.drop)
    return InputPlan(found.shards, layout, found.passed, _identities(found.shards, layout))


def uris_of(wanted: Input) -> tuple[str, ...]:
    """Return the URIs of an input, one or several."""
    return (wanted.uri,) if isinstance(wanted.uri, str) else wanted.uri


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
