"""Before and after the units: what the output may hold, what units read, and the manifest that says it is done."""

import dataclasses
import importlib.metadata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline import __version__
from pipeline.errors import ConflictError, InputError, RecipeError
from pipeline.lineage.card import dataset_card
from pipeline.lineage.croissant import croissant
from pipeline.lineage.openlineage import openlineage_lines
from pipeline.models.references import FileRef
from pipeline.plan import BranchPlan, Plan, StepPlan
from pipeline.planning.banks import read_images
from pipeline.planning.gates import GatePlan
from pipeline.planning.recipes import absolute
from pipeline.seeding import canonical_json
from pipeline.shards.commit import (
    COMMITS,
    FOLDERS,
    check_digest,
    marker_path,
    markers_digest,
    read_markers,
    write_index,
)
from pipeline.shards.locate import would_find
from pipeline.shards.store import Store
from pipeline.unit.fitting import fit_missing, fits, fitted_artifacts
from pipeline.validation import parse
from schemas.manifest import Counts, Failure, Manifest, Marker, ModelRecord, ShardRecord
from schemas.recipe import Recipe, Watermark

MANIFEST = "manifest.json"
LEFT_BY_A_KILL = ("_tmp/", f"{COMMITS}/", "_artifacts/", "_failed/")
PACKAGES = ("ray", "torch", "torchvision", "diffusers", "pyarrow", "pandas", "pillow", "numpy")


def read_manifest(store: Store) -> Manifest:
    """Return a data set's manifest.

    Raises:
        InputError: there is none, it is not one, or the place cannot be read.
    """
    where = f"{store.uri}/{MANIFEST}"
    try:
        data = store.read(MANIFEST)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{store.uri}: no {MANIFEST} here; is this a Palimpsest data set?") from None
    except Exception as error:  # every object store brings its own errors
        raise InputError(f"{where}: cannot be read: {type(error).__name__}: {error}") from None
    try:
        manifest = Manifest.model_validate_json(data)
    except ValueError as error:
        raise InputError(f"{where}: not a manifest: {str(error).splitlines()[0]}") from None
    try:
        _check_sections(manifest)
    except (RecipeError, ValueError) as error:
        raise InputError(f"{where}: {error}") from None
    return manifest


def _check_sections(manifest: Manifest) -> None:
    """Raise where the sections that are plain data are not what everybody takes them for."""
    parse(Recipe, manifest.recipe, "recipe")
    if manifest.watermark is not None:
        settings = {name: value for name, value in manifest.watermark.items() if name != "key_id"}
        if not isinstance(manifest.watermark.get("key_id"), str) or not {"scheme", "psnr_db"} <= set(settings):
            raise RecipeError("watermark: needs scheme, psnr_db and key_id, or null")
        parse(Watermark, settings, "watermark")
    if any(not isinstance(chain.get("name"), str) for chain in manifest.chains):
        raise RecipeError("chains: one has no name")


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
    store.write(MANIFEST, _json(build_manifest(plan, done, complete=False)))  # first: what follows is then ours
    missing = [ref for ref in _references(plan) if not store.exists(f"_artifacts/{ref.sha256}")]
    for image in read_images(missing):
        store.create(f"_artifacts/{image.sha256}", image.data)
    fit_missing(plan, store)
    return done


def check_place(plan: Plan) -> None:
    """Raise RecipeError where there is no output, or input shards lie in it."""
    if not plan.recipe.output.uri.strip():
        raise RecipeError("recipe.output.uri is empty; name a new folder (output.uri, or --output)")
    folder = _normal(plan.output).rstrip("/") + "/"
    for shard in plan.shards:
        if _normal(shard.uri).startswith(folder):
            raise RecipeError(
                f"recipe.output.uri = {plan.recipe.output.uri!r}: the input shard {shard.uri} lies in it; "
                "name another folder"
            )
    source = plan.recipe.input.uri
    if would_find(absolute(source, plan.base), plan.base, f"{folder}{FOLDERS[0]}/unit.parquet"):
        raise RecipeError(
            f"recipe.output.uri = {plan.recipe.output.uri!r}: input.uri {source!r} would find what is written there; "
            "name a folder outside of it"
        )


def check_owner(plan: Plan, store: Store, done: Mapping[str, Marker]) -> None:
    """Raise ConflictError where the output holds files that neither this plan nor an earlier one of ours made.

    What a kill leaves is ours: files of planned units, `_tmp`, `_commits`, `_artifacts`, `_failed`.
    """
    planned = {f"{folder}/{unit.name}.parquet" for folder in FOLDERS for unit in plan.units}
    planned |= {file.path for marker in done.values() for file in marker.files.values()}
    _no_strangers([path for folder in FOLDERS for path in store.list(folder) if path not in planned])
    if done or _is_ours(store):
        return
    for path in store.list(""):
        if path not in planned and not path.startswith((*LEFT_BY_A_KILL, ".")):
            raise ConflictError(
                f"{store.uri} holds {path} and is not a Palimpsest data set (no {MANIFEST} that can be read); "
                "choose another output, or empty it"
            )


def _is_ours(store: Store) -> bool:
    try:
        Manifest.model_validate_json(store.read(MANIFEST))
    except (FileNotFoundError, ValueError):
        return False
    return True


def _normal(uri: str) -> str:
    path = uri.removeprefix("file://")
    return uri if "://" in path else str(Path(path).resolve())


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
    store.write(MANIFEST, _json(manifest))
    return manifest


def check_files(store: Store, markers: Mapping[str, Marker]) -> None:
    """Raise ConflictError where a file is in a data folder that no marker names."""
    named = {file.path for marker in markers.values() for file in marker.files.values()}
    _no_strangers([path for folder in FOLDERS for path in store.list(folder) if path not in named])


def _no_strangers(strangers: Sequence[str]) -> None:
    if strangers:
        more = f" and {len(strangers) - 1} more" if len(strangers) > 1 else ""
        raise ConflictError(f"{strangers[0]}{more}: no marker names this file; move it away and run again")


def _remove_orphans(plan: Plan, store: Store, markers: Mapping[str, Marker]) -> None:
    """Remove what an attempt published that died before its marker, where no later attempt succeeded."""
    open_units = {unit.name for unit in plan.units} - set(markers)
    orphans = {f"{folder}/{name}.parquet": name for folder in FOLDERS for name in open_units}
    for path in (path for folder in FOLDERS if orphans for path in store.list(folder)):
        if path in orphans and not store.exists(marker_path(orphans[path])):
            store.remove(path)


def build_manifest(
    plan: Plan,
    markers: Mapping[str, Marker],
    complete: bool,
    failed: Sequence[str] = (),
    fitted: Mapping[str, str] | None = None,
) -> Manifest:
    """Return the manifest of what is there now; `fitted`: where it came from, by sha256."""
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
        artifacts={ref.sha256: ref.uri for ref in _references(plan)} | dict(fitted or {}),
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
        reasons=_totals(m.reasons for m in found),
        quarantine_reasons=_totals(m.quarantine_reasons for m in found),
    )


def same_counts(stated: Counts | None, counted: Counts) -> bool:
    """Whether a manifest states what was counted; one of an earlier version states no reasons."""
    early = {"reasons", "quarantine_reasons"} - (stated.model_fields_set if stated else set())
    return stated == counted.model_copy(update={name: {} for name in early})


def _totals(found: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Return sums by reason, the most frequent first."""
    totals: Counter[str] = Counter()
    for each in found:
        totals.update(each)
    return dict(sorted(totals.items(), key=lambda item: (-item[1], item[0])))


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
    """Every reference image that units read."""
    parts = [part for part in _parts(plan) if not (isinstance(part, StepPlan) and fits(part))]
    found = {image.sha256: image for part in parts for images in part.images.values() for image in images}
    return list(found.values())


def _json(manifest: Manifest) -> bytes:
    return manifest.model_dump_json(indent=1).encode()
