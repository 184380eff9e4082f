"""Before and after the units: what the output may hold, what units read, and the manifest that says it is done."""

from collections.abc import Mapping

from pipeline.lineage.card import dataset_card
from pipeline.lineage.croissant import croissant
from pipeline.lineage.openlineage import openlineage_lines
from pipeline.plan import Plan
from pipeline.planning.banks import read_images
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
from pipeline.publishing.ownership import check_files, check_markers, check_owner, check_place
from pipeline.seeding import canonical_json
from pipeline.shards.commit import FOLDERS, marker_path, read_markers, write_index
from pipeline.shards.store import Store
from pipeline.unit.fitting import fit_missing, fitted_artifacts
from schemas.manifest import Failure, Manifest, Marker

__all__ = ["branch_from", "count", "prepare", "publish", "read_manifest", "same_counts"]


def prepare(plan: Plan, store: Store) -> dict[str, Marker]:
    """Make the output ready and return the markers of units that are done.

    Raises:
        RecipeError: the output is nowhere, or where the input is.
        InputError: nothing can be written there.
        ConflictError: the output holds a unit that this plan does not make, or makes differently, or other files.
    """
    check_place(plan)
    store.probe()
    done = check_markers(plan, read_markers(store))
    check_owner(plan, store, done)
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
    markers = check_markers(plan, read_markers(store))
    _remove_orphans(plan, store, markers)
    check_files(store, markers)
    for unit in plan.units:
        if unit.name in markers:
            store.remove(f"_failed/{unit.name}.json")
    failures = [Failure.model_validate_json(store.read(path)) for path in store.list("_failed")]
    failed = [failure.unit for failure in failures]
    complete, fitted = len(markers) == len(plan.units), fitted_artifacts(plan, store)
    manifest = build_manifest(plan, markers, complete, failed, fitted)
    write_index(store, markers)
    store.write("README.md", dataset_card(manifest).encode())
    store.write("croissant.json", canonical_json(croissant(manifest, markers)).encode())
    lines = openlineage_lines(manifest, markers, failures, plan.output)
    store.write("openlineage.jsonl", "".join(f"{line}\n" for line in lines).encode())
    for path in store.list("_tmp"):
        store.remove(path)
    store.write(MANIFEST, manifest_json(manifest))
    return manifest


def _remove_orphans(plan: Plan, store: Store, markers: Mapping[str, Marker]) -> None:
    """Remove what an attempt published that died before its marker, where no later attempt succeeded."""
    open_units = {unit.name for unit in plan.units} - set(markers)
    orphans = {f"{folder}/{name}.parquet": name for folder in FOLDERS for name in open_units}
    for path in (path for folder in FOLDERS if orphans for path in store.list(folder)):
        if path in orphans and not store.exists(marker_path(orphans[path])):
            store.remove(path)
