"""After the units: write the manifest, the card, the index and the files for other tools; remove orphan files."""

import contextlib
import logging
from collections.abc import Mapping

from pipeline.execution.fit import fitted_artifacts
from pipeline.execution.row_failures import FOLDER, drop_row_failures
from pipeline.lineage.card import dataset_card
from pipeline.lineage.croissant import croissant
from pipeline.lineage.openlineage import openlineage_lines
from pipeline.plan import Plan
from pipeline.publishing.manifest import (
    MANIFEST,
    build_manifest,
    manifest_json,
)
from pipeline.publishing.output_checks import check_files, check_markers
from pipeline.seeding import canonical_json
from pipeline.shards.output.commit import damaged_units, remove_orphans, write_index
from pipeline.shards.output.store import Store
from schemas.manifest import Failure, Manifest

_log = logging.getLogger(__name__)


def finalise(plan: Plan, store: Store) -> Manifest:
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
    drop_row_failures(store, ((m.branch, code) for m in markers.values() for code in m.quarantine_reasons))
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
    """Return the failures of units that are still missing, by name and digest, and remove all other failures.

    The others were made since, or belong to another plan. Files that are no failures are kept.
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
