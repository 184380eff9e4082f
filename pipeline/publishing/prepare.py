"""Before the units: check the output and take its lease, find the units that are done, store artifacts."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.execution.fit import fit_missing
from pipeline.messages import counted
from pipeline.plan import Plan, Units
from pipeline.planning.planner import check_named_images
from pipeline.planning.reference_images import read_images
from pipeline.publishing.lease import Lease
from pipeline.publishing.log_state import LogState, read_state
from pipeline.publishing.manifest import MANIFEST, build_manifest, earlier_manifest, manifest_json, references
from pipeline.publishing.output_checks import check_others, check_owner, check_place, rewritten_shards
from pipeline.publishing.prune import is_begun, pruned_shards
from pipeline.publishing.recovery import check_leftovers, recover_units
from pipeline.shards.output.commit_log import Announce, CommitLog, tell_nobody
from pipeline.shards.output.data_files import DataFiles
from pipeline.shards.output.store import Store
from schemas.manifest import PrunedShard

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """An output that is ready: what is there of the plan, and the number of this run."""

    plan: Plan
    state: LogState
    run: int
    pruned: tuple[PrunedShard, ...] = ()

    @property
    def done(self) -> npt.NDArray[np.bool_]:
        """[N] whether each unit of the plan is there."""
        return self.state.done

    def missing(self) -> Units:
        """Return the units that are not there."""
        return self.plan.units.select(~self.state.done)


def prepare(
    plan: Plan,
    store: Store,
    lease: Lease | None = None,
    prune: bool = False,
    announce: Announce = tell_nobody,
) -> Prepared:
    """Make the output ready, and return what is done.

    Args:
        lease: taken once the checks of the output have passed.
        prune: what was made of shards that changed or are no longer in the input is no conflict, but goes when the data
            set is published.
        announce: called with the path of each segment of the log before it is written.

    Raises:
        RecipeError: no output is named, or it is among the input; or a chain cannot take the images that rows link to.
        InputError: nothing can be written there.
        ConflictError: the output holds a unit that this plan does not make, or makes differently, or other files.
    """
    check_place(plan)
    check_named_images(plan)
    store.probe()
    log = CommitLog(store)
    state = read_state(plan, log, DataFiles(store))
    before = earlier_manifest(store)
    pruned = pruned_shards(plan, before, state) if prune or is_begun(before, state) else ()
    check_others(plan, store, state, pruned)
    check_leftovers(plan, state)
    check_owner(store, state, before)
    if lease is not None:
        lease.take()
    run = max(before.run + 1 if before else 1, lease.number if lease is not None else 1)
    if again := rewritten_shards(plan, before):
        more = f" and {len(again) - 1} more" if len(again) > 1 else ""
        _log.warning(
            "shard %s%s: written again since the last run, with the same columns beside the images; whether the images "
            "are the same, `palimpsest verify` says", again[0], more,
        )  # fmt: skip
    for each in pruned:
        what = "is no longer in the input" if each.reason == "gone" else "changed since"
        _log.warning(
            "shard %s %s: what was made of it is removed, %s of %s",
            each.shard, what, counted(each.images, "image"), counted(each.units, "unit"),
        )  # fmt: skip
    records = _all_pruned(before.pruned if before else (), pruned)
    store.write(
        MANIFEST, manifest_json(build_manifest(plan, state, None, run, pruned=records))
    )  # first: then it is ours
    recovered = recover_units(plan, store, state, run, before.run if before else run, announce)
    if recovered.units:
        _log.info("%d units that an earlier run made were taken up", recovered.units)
    for name, what in state.damaged.items():
        _log.warning("unit %s is made again: %s", name, what)
    missing = [ref for ref in references(plan) if not store.exists(f"_artifacts/{ref.sha256}")]
    for image in read_images(missing):
        store.create(f"_artifacts/{image.sha256}", image.data)
    fit_missing(plan, store)
    return Prepared(plan, state, run, records)


def _all_pruned(before: Sequence[PrunedShard], now: Sequence[PrunedShard]) -> tuple[PrunedShard, ...]:
    """Return the records of earlier runs and of this one; a run that was killed is not counted twice."""
    known = {(each.shard, each.digest) for each in now}
    return (*(each for each in before if (each.shard, each.digest) not in known), *now)
