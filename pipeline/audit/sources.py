"""Shards that a run has read, opened again as that run read them."""

from pipeline.shards.columns.layout import Layout, read_layout
from pipeline.shards.files.locate import Shard, find_again
from schemas.manifest import Manifest, ShardRecord
from schemas.recipe import Recipe


def reopen(manifest: Manifest, record: ShardRecord) -> tuple[Shard, Layout]:
    """Return one shard of a run, and its columns as the run took them, other shards' included.

    Raises:
        InputError: it is not there, not Parquet, or lacks a column; whether it has changed is the caller's to see.
    """
    wanted = Recipe.model_validate(manifest.recipe).input
    shard = find_again(record.uri, record.path, ".")
    return shard, read_layout((shard,), wanted.columns, wanted.drop, manifest.input, asks=False)
