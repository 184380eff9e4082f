"""Pruning: what was made of shards that changed, or are no longer in the input, is named, and removed where asked."""

from collections.abc import Mapping
from typing import Literal

from pipeline.plan import Plan
from pipeline.publishing.log_state import LogState
from pipeline.shards.files.discovery import Shard
from schemas.manifest import Manifest, PrunedShard, ShardRecord


def pruned_shards(plan: Plan, before: Manifest | None, state: LogState) -> tuple[PrunedShard, ...]:
    """Return what pruning would remove, a record for each shard; empty where other causes keep it from being enough."""
    if before is None or not state.others:
        return ()
    now = {shard.path: shard for shard in plan.shards}
    recorded = {record.path: record for record in before.shards}
    begun = {each.shard: each for each in before.pruned}  # by a run that was killed meanwhile
    found: dict[str, PrunedShard] = {}
    for each in state.others.values():
        if each.shard is None:
            return ()
        reason, digest = _reason(each.shard, now, recorded)
        if reason is None and each.shard in begun:
            reason, digest = begun[each.shard].reason, begun[each.shard].digest
        if reason is None:
            return ()
        known = found.get(each.shard)
        found[each.shard] = PrunedShard(
            shard=each.shard,
            digest=digest,
            reason=reason,
            units=len(each.names) + (known.units if known else 0),
            images=each.images + (known.images if known else 0),
        )
    return tuple(found.values())


def is_begun(before: Manifest | None, state: LogState) -> bool:
    """Whether all that this plan does not make is of shards that a run pruned, and its files are gone already."""
    begun = {each.shard for each in before.pruned} if before is not None else set()
    return bool(state.others) and all(each.shard in begun and not each.there for each in state.others.values())


def _reason(
    path: str, now: Mapping[str, Shard], recorded: Mapping[str, ShardRecord]
) -> tuple[Literal["gone", "changed"] | None, str]:
    """Return why a shard's units are no longer planned, and its digest then; None where the shard is not why."""
    if path not in recorded:
        return None, ""
    record = recorded[path]
    if path not in now:
        return "gone", record.digest
    shard = now[path]
    same = (record.digest, record.columns) == (shard.digest, dict(shard.columns))
    return (None if same else "changed"), record.digest
