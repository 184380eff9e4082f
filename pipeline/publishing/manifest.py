"""`manifest.json`: written from a plan and what is there of it, read back and checked."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline import __version__
from pipeline.devices import installed_versions
from pipeline.errors import InputError, RecipeError
from pipeline.execution.fit import fits
from pipeline.messages import error_line, short_repr
from pipeline.model_files.references import FileRef
from pipeline.packages import package_from
from pipeline.plan import BranchPlan, GatePlan, Plan, StepPlan
from pipeline.publishing.log_state import LogState
from pipeline.shards.columns.layout import record_of
from pipeline.shards.files.discovery import Shard
from pipeline.shards.output.commit_log import EARLIER, CommitLog
from pipeline.shards.output.counts import CountSums, total
from pipeline.shards.output.store import Store
from pipeline.validation import EarlierLayoutError, parse, read_record
from pipeline.working_dir import persistent_path
from schemas.manifest import CommitsRecord, Manifest, ModelRecord, PrunedShard, ShardRecord
from schemas.recipe import MAX_COPIES, MAX_MICRO_BATCH, Recipe, Watermark

MANIFEST = "manifest.json"
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
        raise InputError(f"{where}: cannot be read: {error_line(error)}") from None
    try:
        manifest = read_record(Manifest, data)
    except EarlierLayoutError as field:
        version = short_repr(json.loads(data).get("palimpsest"))
        text = f"written by an earlier Palimpsest, {version}, in another layout ({field}); {EARLIER}"
        raise InputError(f"{where}: {text}") from None
    except ValueError as error:
        raise InputError(f"{where}: not a manifest: {str(error).splitlines()[0]}") from None
    try:
        _check_sections(manifest)
    except (RecipeError, ValueError) as error:
        raise InputError(f"{where}: {error}") from None
    return manifest


def _check_sections(manifest: Manifest) -> None:
    """Raise RecipeError or ValueError where a section that is plain data (recipe, watermark, chains) is invalid."""
    parse(Recipe, manifest.recipe, "recipe")
    if manifest.watermark is not None:
        settings = {name: value for name, value in manifest.watermark.items() if name != "key_id"}
        if not isinstance(manifest.watermark.get("key_id"), str) or not {"scheme", "psnr_db"} <= set(settings):
            raise RecipeError("watermark: needs scheme, psnr_db and key_id, or null")
        parse(Watermark, settings, "watermark")
    if any(not isinstance(chain.get("name"), str) for chain in manifest.chains):
        raise RecipeError("chains: one has no name")


def earlier_manifest(store: Store) -> Manifest | None:
    """Return the manifest of an earlier run; None where there is none that can be read."""
    try:
        return Manifest.model_validate_json(store.read(MANIFEST))
    except (FileNotFoundError, ValueError):
        return None


def build_manifest(
    plan: Plan,
    state: LogState | None = None,
    log: CommitLog | None = None,
    run: int = 1,
    failed: Sequence[str] = (),
    fitted: Mapping[str, str] | None = None,
    pruned: Sequence[PrunedShard] = (),
) -> Manifest:
    """Return the manifest of the units that are there.

    Args:
        state: what is there; None: nothing.
        log: of a data set that is published; None: a run goes on, so it is not complete.
        run: number of this run.
        failed: names of units that failed.
        fitted: the origin of fitted artifacts by sha256.
        pruned: what `--prune` removed.
    """
    sums = state.sums if state else {}
    models = {(model.reference, model.sha256) for part in parts(plan) for model in part.models.values()}
    complete = state is not None and log is not None and bool(state.done.all())
    return Manifest(
        palimpsest=__version__,
        complete=complete,
        plan_digest=plan.digest,
        recipe=plan.recipe.model_dump(mode="json"),
        recipe_base=persistent_path(plan.base),
        limit=plan.limit,
        chains=[chain_record(branch) for branch in plan.branches],
        classes=list(plan.classes),
        shards=[_shard_record(shard) for shard in plan.shards],
        input=record_of(plan.layout) if plan.layout else None,
        models=[ModelRecord(reference=reference, sha256=sha256) for reference, sha256 in sorted(models)],
        artifacts={ref.sha256: ref.uri for ref in references(plan)} | dict(fitted or {}),
        units=len(plan.units),
        planned={branch.name: plan.units_in(branch.name).units for branch in plan.branches},
        failed=sorted(failed),
        counts=total(sums.values()),
        branches={branch.name: sums.get(branch.name, CountSums()).counts() for branch in plan.branches},
        run=run,
        commits=CommitsRecord(sha256=state.sha256 if state else "", segments=log.described() if log else []),
        watermark=_watermark(plan),
        versions=installed_versions(PACKAGES),
        devices=sorted(state.devices) if state else [],
        pruned=list(pruned),
    )


def _shard_record(shard: Shard) -> ShardRecord:
    return ShardRecord(
        uri=shard.uri,
        path=shard.path,
        rows=shard.rows,
        bytes=shard.bytes,
        digest=shard.digest,
        columns=dict(shard.columns),
        file_version=shard.file_version,
    )


def chain_record(branch: BranchPlan) -> dict[str, Any]:
    """Return a branch as plain data, without what only changes speed."""
    record = dataclasses.asdict(branch)
    for part in (*record["steps"], *record["gates"]):
        if part["package"] is not None:
            del part["package"]["trusted"]
    return {key: value for key, value in record.items() if key not in ("gpus", "cpus", "actors")}


def branch_from(record: Mapping[str, Any]) -> BranchPlan:
    """Return the branch that `chain_record` wrote down, on the CPU. Packages that it names are not trusted.

    Raises:
        InputError: the record lacks what every branch has, or states what no plan does.
    """
    try:
        steps = tuple(StepPlan(**_with_files(step)) for step in record["steps"])
        gates = tuple(GatePlan(**_with_files(gate)) for gate in record.get("gates", ()))
        branch = BranchPlan(**{**record, "steps": steps, "gates": gates})
        for part in branch.parts:
            if not 0 <= part.version < 2**31:
                raise ValueError(f"version {part.version}")
        if not (0 <= branch.copies <= MAX_COPIES and 1 <= branch.micro_batch <= MAX_MICRO_BATCH):
            raise ValueError(f"copies {branch.copies}, micro_batch {branch.micro_batch}")
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        reason = f"its chain in the manifest cannot be read: {error_line(error)}"
        raise InputError(f"branch {record.get('name')}: {reason}") from None
    return branch


def _with_files(record: Mapping[str, Any]) -> dict[str, Any]:
    models = {name: FileRef(**model) for name, model in record["models"].items()}
    images = {name: tuple(FileRef(**image) for image in images) for name, images in record["images"].items()}
    package = record.get("package")
    return {
        **record,
        "models": models,
        "images": images,
        "package": None if package is None else package_from(package),
    }


def _watermark(plan: Plan) -> dict[str, Any] | None:
    settings = plan.recipe.watermark
    return None if settings == "none" else {**settings.model_dump(mode="json"), "key_id": plan.key_id}


def parts(plan: Plan) -> list[StepPlan | GatePlan]:
    """Return every step and gate of the plan."""
    found: list[StepPlan | GatePlan] = []
    for branch in plan.branches:
        found += [*branch.steps, *branch.gates]
    return found


def references(plan: Plan) -> list[FileRef]:
    """Return every reference image that units read, once by sha256."""
    read = [part for part in parts(plan) if not (isinstance(part, StepPlan) and fits(part))]
    found = {image.sha256: image for part in read for images in part.images.values() for image in images}
    return list(found.values())


def manifest_json(manifest: Manifest) -> bytes:
    return manifest.model_dump_json(indent=1).encode()
