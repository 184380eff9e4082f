"""Before the units: check the output and take its lease, find the units that are done, store artifacts."""

import logging

from pipeline.execution.fit import fit_missing
from pipeline.plan import Plan
from pipeline.planning.planner import check_named_images
from pipeline.planning.reference_images import read_images
from pipeline.publishing.lease import Lease
from pipeline.publishing.manifest import (
    MANIFEST,
    build_manifest,
    manifest_json,
    references,
)
from pipeline.publishing.output_checks import check_markers, check_owner, check_place, rewritten_shards
from pipeline.shards.output.commit import damaged_units, forget_units
from pipeline.shards.output.store import Store
from schemas.manifest import UnitRecord

_log = logging.getLogger(__name__)


def prepare(plan: Plan, store: Store, lease: Lease | None = None) -> dict[str, UnitRecord]:
    """Make the output ready, and return the markers of units that are done and whose files are there.

    Args:
        lease: taken once the checks of the output have passed.

    Raises:
        RecipeError: no output is named, or it is among the input; or a chain cannot take the images that rows link to.
        InputError: nothing can be written there.
        ConflictError: the output holds a unit that this plan does not make, or makes differently, or other files.
    """
    check_place(plan)
    check_named_images(plan)
    store.probe()
    done = check_markers(plan, store)
    check_owner(plan, store, done)
    if lease is not None:
        lease.take()
    if again := rewritten_shards(plan, store):
        more = f" and {len(again) - 1} more" if len(again) > 1 else ""
        _log.warning(
            "shard %s%s: written again since the last run, with the same columns beside the images; whether the images "
            "are the same, `palimpsest verify` says", again[0], more,
        )  # fmt: skip
    damaged = damaged_units(store, done)
    for name, what in damaged.items():
        _log.warning("unit %s is made again: %s", name, what)
    forget_units(store, damaged)
    done = {name: marker for name, marker in done.items() if name not in damaged}
    store.write(MANIFEST, manifest_json(build_manifest(plan, done, complete=False)))  # first: what follows is then ours
    missing = [ref for ref in references(plan) if not store.exists(f"_artifacts/{ref.sha256}")]
    for image in read_images(missing):
        store.create(f"_artifacts/{image.sha256}", image.data)
    fit_missing(plan, store)
    return done
