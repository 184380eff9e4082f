"""Checks of an output before a run: it is empty, or holds files that this plan makes."""

from collections.abc import Mapping
from pathlib import Path

from pipeline.errors import ConflictError, RecipeError
from pipeline.messages import short_repr
from pipeline.plan import Plan
from pipeline.planning.input.input_plan import uris_of
from pipeline.planning.recipe_file import absolute
from pipeline.publishing.differences import difference_text
from pipeline.publishing.manifest import MANIFEST
from pipeline.shards.files.discovery import would_find
from pipeline.shards.output.commit import COMMITS, FOLDERS, read_markers
from pipeline.shards.output.store import Store
from schemas.manifest import Manifest, UnitRecord

LEFT_BY_KILLED_RUNS = ("_tmp/", f"{COMMITS}/", "_artifacts/", "_failed/")


def check_place(plan: Plan) -> None:
    """Raise RecipeError where no output is named, or where it would be found as input."""
    if not plan.recipe.output.uri.strip():
        raise RecipeError("recipe.output.uri is empty; name a new folder (output.uri, or --output)")
    folder = _normal(plan.output).rstrip("/") + "/"
    for shard in plan.shards:
        if _normal(shard.uri).startswith(folder):
            raise RecipeError(
                f"recipe.output.uri = {plan.recipe.output.uri!r}: the input shard {shard.uri} lies in it; "
                "name another folder"
            )
    for source in uris_of(plan.recipe.input):
        if would_find(absolute(source, plan.base), plan.base, f"{folder}{FOLDERS[0]}/unit.parquet"):
            raise RecipeError(
                f"recipe.output.uri = {plan.recipe.output.uri!r}: input.uri {source!r} would find what is written "
                "there; name a folder outside of it"
            )


def check_owner(plan: Plan, store: Store, done: Mapping[str, UnitRecord]) -> None:
    """Raise ConflictError where the output holds files that are not of a Palimpsest run.

    Files that a killed run leaves are accepted: those of planned units, `_tmp`, `_commits`, `_artifacts`, `_failed`.
    """
    planned = check_files(plan, store, done)
    if done or _earlier_manifest(store) is not None:
        return
    for path in store.list(""):
        if path not in planned and not path.startswith((*LEFT_BY_KILLED_RUNS, ".")):
            raise ConflictError(
                f"{store.uri} holds {path} and is not a Palimpsest data set (no {MANIFEST} that can be read); "
                "choose another output, or empty it"
            )


def _earlier_manifest(store: Store) -> Manifest | None:
    """Return the manifest of an earlier run; None where there is none that can be read."""
    try:
        return Manifest.model_validate_json(store.read(MANIFEST))
    except (FileNotFoundError, ValueError):
        return None


def _normal(uri: str) -> str:
    path = uri.removeprefix("file://")
    return uri if "://" in path else str(Path(path).resolve())


def check_markers(plan: Plan, store: Store) -> dict[str, UnitRecord]:
    """Return the markers in the output.

    Raises:
        ConflictError: one belongs to a unit that this plan does not make, or makes differently; the message says why.
    """
    markers = read_markers(store)
    planned = {unit.name: unit.digest for unit in plan.units}
    others = [name for name, marker in markers.items() if planned.get(name) != marker.digest]
    if others:
        unknown = [name for name in others if name not in planned]
        what = "this plan does not make" if unknown else "this plan makes otherwise"
        before = _earlier_manifest(store)
        why = (difference_text(before, plan) if before else "") or "another recipe, seed, operator, model or --limit"
        raise ConflictError(
            f"{store.uri} holds {len(others)} of {len(markers)} units that {what} "
            f"({short_repr((unknown or others)[0])}): {why}; undo that, or choose another output"
        )
    return markers


def rewritten_shards(plan: Plan, store: Store) -> list[str]:
    """Return the shards whose files were written again since the last run with the same footers and hashed columns."""
    before = _earlier_manifest(store)
    records = before.shards if before else ()
    versions = {(record.uri, record.path): record.file_version for record in records if record.file_version}
    known = [(shard, versions.get((shard.uri, shard.path))) for shard in plan.shards if shard.file_version]
    return [shard.path for shard, version in known if version is not None and version != shard.file_version]


def check_files(plan: Plan, store: Store, markers: Mapping[str, UnitRecord]) -> set[str]:
    """Return the paths of data files that the output may hold: those of planned units and of markers.

    Raises:
        ConflictError: a file is in a data folder that is none of them.
    """
    known = {f"{folder}/{unit.name}.parquet" for folder in FOLDERS for unit in plan.units}
    known |= {file.path for marker in markers.values() for file in marker.files.values()}
    unknown = [path for folder in FOLDERS for path in store.list(folder) if path not in known]
    if unknown:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise ConflictError(f"{unknown[0]}{more}: no marker names this file; move it away and run again")
    return known
