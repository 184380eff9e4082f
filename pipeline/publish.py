"""Before and after the units: what the output may hold, what units read, and the manifest that says it is done."""

import dataclasses
import importlib.metadata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline import __version__
from pipeline.errors import ConflictError
from pipeline.gates import GatePlan
from pipeline.lineage.card import dataset_card
from pipeline.lineage.croissant import croissant
from pipeline.lineage.openlineage import openlineage_lines
from pipeline.models.references import FileRef, read_reference
from pipeline.plan import BranchPlan, Plan, StepPlan
from pipeline.seeding import canonical_json
from pipeline.shards.commit import COMMITS, FOLDERS, check_digest, markers_digest, read_markers, write_index
from pipeline.shards.store import Store
from schemas.manifest import Counts, Failure, Manifest, Marker, ModelRecord, ShardRecord

MANIFEST = "manifest.json"
PACKAGES = ("ray", "torch", "torchvision", "diffusers", "pyarrow", "pandas", "pillow", "numpy")


def prepare(plan: Plan, store: Store) -> dict[str, Marker]:
    """Make the output ready and return the markers of units that are done.

    Raises:
        ConflictError: the output holds a unit that this plan does not make, or makes differently.
    """
    done = check_markers(plan, read_markers(store))
    for ref in _references(plan):
        path = f"_artifacts/{ref.sha256}"
        if not store.exists(path):
            store.create(path, read_reference(ref))
    store.write(MANIFEST, _json(build_manifest(plan, done, complete=False)))
    return done


def check_markers(plan: Plan, markers: dict[str, Marker]) -> dict[str, Marker]:
    """Return `markers` if each belongs to the plan; raise ConflictError if not."""
    planned = {unit.name: unit.digest for unit in plan.units}
    for name, marker in markers.items():
        if name not in planned:
            raise ConflictError(
                f"unit {name} (digest {marker.digest[:12]}) is in the output, and this plan does not make it; "
                "choose another output, or give back the branch, shard or --limit it came from"
            )
        check_digest(marker, planned[name])
    return markers


def publish(plan: Plan, store: Store) -> Manifest:
    """Write the manifest, the card and the index; the data set is complete if every planned unit has its marker.

    Raises:
        ConflictError: a file lies in `data/`, `rejected/` or `quarantine/` that no marker names.
    """
    markers = check_markers(plan, read_markers(store))
    check_files(store, markers)
    for unit in plan.units:
        if unit.name in markers:
            store.remove(f"_failed/{unit.name}.json")
    failures = [Failure.model_validate_json(store.read(path)) for path in store.list("_failed")]
    failed = [failure.unit for failure in failures]
    manifest = build_manifest(plan, markers, complete=len(markers) == len(plan.units), failed=failed)
    write_index(store, markers)
    store.write("README.md", dataset_card(manifest).encode())
    store.write("croissant.json", canonical_json(croissant(manifest, markers)).encode())
    lines = openlineage_lines(manifest, markers, failures, plan.output)
    store.write("openlineage.jsonl", "".join(f"{line}\n" for line in lines).encode())
    for path in store.list("_tmp"):
        store.remove(path)
    store.write(MANIFEST, _json(manifest))
    return manifest


def check_files(store: Store, markers: Mapping[str, Marker]) -> None:
    """Raise ConflictError where a file is in a data folder that no marker names."""
    named = {file.path for marker in markers.values() for file in marker.files.values()}
    strangers = [path for folder in FOLDERS for path in store.list(folder) if path not in named]
    if strangers:
        more = f" and {len(strangers) - 1} more" if len(strangers) > 1 else ""
        raise ConflictError(f"{strangers[0]}{more}: no marker names this file; move it away and run again")


def build_manifest(plan: Plan, markers: Mapping[str, Marker], complete: bool, failed: Sequence[str] = ()) -> Manifest:
    """Return the manifest of what is there now."""
    branches = {branch.name: [m for m in markers.values() if m.branch == branch.name] for branch in plan.branches}
    models = {(model.reference, model.sha256) for part in _parts(plan) for model in part.models.values()}
    return Manifest(
        palimpsest=__version__,
        complete=complete,
        plan_digest=plan.digest,
        recipe=plan.recipe.model_dump(mode="json"),
        recipe_base=plan.base,
        limit=plan.limit,
        chains=[chain_record(branch) for branch in plan.branches],
        classes=list(plan.classes),
        shards=[ShardRecord(uri=s.uri, path=s.path, rows=s.rows, bytes=s.bytes, digest=s.digest) for s in plan.shards],
        models=[ModelRecord(reference=reference, sha256=sha256) for reference, sha256 in sorted(models)],
        artifacts={ref.sha256: ref.uri for ref in _references(plan)},
        units=len(plan.units),
        failed=sorted(failed),
        counts=count(markers.values()),
        branches={name: count(found) for name, found in branches.items()},
        markers={"folder": COMMITS, "sha256": markers_digest(markers)},
        watermark=_watermark(plan),
        versions={name: importlib.metadata.version(name) for name in PACKAGES},
    )


def count(markers: Iterable[Marker]) -> Counts:
    """Return the sums over some markers."""
    found = list(markers)
    return Counts(
        units=len(found),
        selected=sum(m.selected for m in found),
        asked=sum(m.selected * m.copies for m in found),
        accepted=sum(m.accepted for m in found),
        rejected=sum(m.rejected for m in found),
        quarantined=sum(m.quarantined for m in found),
        remade=sum(m.remade for m in found),
    )


def chain_record(branch: BranchPlan) -> dict[str, Any]:
    """Return a branch as plain data, without what only changes speed."""
    record = dataclasses.asdict(branch)
    return {key: value for key, value in record.items() if key not in ("gpus", "cpus", "actors")}


def branch_from(record: Mapping[str, Any]) -> BranchPlan:
    """Return the branch that `chain_record` wrote down, on the CPU."""
    steps = tuple(StepPlan(**_with_files(step)) for step in record["steps"])
    gates = tuple(GatePlan(**_with_files(gate)) for gate in record.get("gates", ()))
    return BranchPlan(**{**record, "steps": steps, "gates": gates})


def _with_files(record: Mapping[str, Any]) -> dict[str, Any]:
    models = {name: FileRef(**model) for name, model in record["models"].items()}
    images = {name: tuple(FileRef(**image) for image in images) for name, images in record["images"].items()}
    return {**record, "models": models, "images": images}


def _watermark(plan: Plan) -> dict[str, Any] | None:
    settings = plan.recipe.watermark
    return None if settings == "none" else {**settings.model_dump(mode="json"), "key_id": plan.key_id}


def _parts(plan: Plan) -> list[StepPlan | GatePlan]:
    found: list[StepPlan | GatePlan] = []
    for branch in plan.branches:
        found += [*branch.steps, *branch.gates]
    return found


def _references(plan: Plan) -> list[FileRef]:
    found = {image.sha256: image for part in _parts(plan) for images in part.images.values() for image in images}
    return list(found.values())


def _json(manifest: Manifest) -> bytes:
    return manifest.model_dump_json(indent=1).encode()
