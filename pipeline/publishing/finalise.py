"""Before and after the units: what the output may hold, what units read, and the manifest that says it is done."""

import contextlib
import logging
from collections.abc import Mapping

from pipeline.execution.fit import fit_missing, fitted_artifacts
from pipeline.execution.row_failures import FOLDER, drop_kinds
from pipeline.lineage.card import dataset_card
from pipeline.lineage.croissant import croissant
from pipeline.lineage.openlineage import openlineage_lines
from pipeline.planning.planner import Plan, check_named_images
from pipeline.planning.reference_images import read_images
from pipeline.publishing.lease import Lease
from pipeline.publishing.manifest import (
    MANIFEST,
    branch_from,
    build_manifest,
    count,
    manifest_json,
    read_manifest,
    references,
    same_counts,
)
from pipeline.publishing.ownership import check_files, check_markers, check_owner, check_place, written_again
from pipeline.seeding import canonical_json
from pipeline.shards.output.commit import damaged_units, forget_units, remove_orphans, write_index
from pipeline.shards.output.store import Store
from schemas.manifest import Failure, Manifest, Marker

__all__ = ["branch_from", "count", "prepare", "publish", "read_manifest", "same_counts"]

_log = logging.getLogger(__name__)


def prepare(plan: Plan, store: Store, lease: Lease | None = None) -> dict[str, Marker]:
    """Make the output ready and return the markers of units that are done; units whose files are gone are not.

    Args:
        lease: taken once the output is known to be ours to write.

    Raises:
        RecipeError: the output is nowhere, or where the input is; or a chain is not for the images that rows name.
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
    if again := written_again(plan, store):
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


def publish(plan: Plan, store: Store) -> Manifest:
    """Write the manifest, the card and the index; the data set is complete if every planned unit has its marker.

    Raises:
        ConflictError: a file lies in `data/`, `rejected/` or `quarantine/` that no marker names.
    """
    markers = check_markers(plan, store)
    remove_orphans(store, {unit.name for unit in plan.units} - set(markers))
    check_files(plan, store, markers)
    damaged = damaged_units(store, markers)
    for name, what in damaged.items():
        _log.warning("unit %s: %s; the same command makes it again", name, what)
    drop_kinds(store, ((m.branch, code) for m in markers.values() for code in m.quarantine_reasons))
    failures = _failures(store, {unit.name: unit.digest for unit in plan.units if unit.name not in markers})
    failed = sorted({failure.unit for failure in failures} | set(damaged))
    complete, fitted = len(markers) == len(plan.units) and not damaged, fitted_artifacts(plan, store)
    manifest = build_manifest(plan, markers, complete, failed, fitted)
    write_index(store, markers)
    store.write("README.md", dataset_card(manifest).encode())
    store.write("croissant.json", canonical_json(croissant(manifest, markers)).encode())
    lines = openlineage_lines(manifest, markers, failures, plan.output)
    store.write("openlineage.jsonl", "".join(f"{line}\n" for line in lines).encode())
    store.tidy()
    store.write(MANIFEST, manifest_json(manifest))
    return manifest


def _failures(store: Store, missing: Mapping[str, str]) -> list[Failure]:
    """Return the records of failed units that are still missing, by name and digest; remove those of any others.

    Others were made since, or are of another plan. What somebody else put there is left alone.
    """
    found = []
    for path in store.list("_failed"):
        if path.startswith(f"{FOLDER}/"):
            continue
        with contextlib.suppress(FileNotFoundError, ValueError):
            failure = Failure.model_validate_json(store.read(path))
            if missing.get(failure.unit) == failure.digest:
                found.append(failure)
            else:
                store.remove(path)
    return found
