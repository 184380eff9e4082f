"""Checks of an output before a run: it is empty, or holds files that this plan makes."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import ConflictError, RecipeError
from pipeline.messages import short_repr
from pipeline.plan import Plan
from pipeline.planning.input.input_plan import uris_of
from pipeline.planning.recipe_file import absolute
from pipeline.publishing.differences import difference_text
from pipeline.publishing.log_state import LogState
from pipeline.publishing.manifest import MANIFEST, earlier_manifest
from pipeline.publishing.prune import pruned_shards
from pipeline.shards.files.discovery import would_find
from pipeline.shards.identity import changed_columns
from pipeline.shards.output.commit_log import COMMITS
from pipeline.shards.output.segments import FOLDERS
from pipeline.shards.output.store import Store
from schemas.manifest import Manifest, PrunedShard

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


def check_owner(store: Store, state: LogState, before: Manifest | None) -> None:
    """Raise ConflictError where the output holds files that are not of a Palimpsest run.

    Files that a killed run leaves are accepted: those of planned units, `_tmp`, `_commits`, `_artifacts`, `_failed`.

    Args:
        before: the manifest of an earlier run.
    """
    if state.done.any() or before is not None:
        return
    for path, _ in store.scan(""):
        if path not in state.leftovers and not path.startswith((*LEFT_BY_KILLED_RUNS, ".")):
            raise ConflictError(
                f"{store.uri} holds {path} and is not a Palimpsest data set (no {MANIFEST} that can be read); "
                "choose another output, or empty it"
            )


def _normal(uri: str) -> str:
    path = uri.removeprefix("file://")
    return uri if "://" in path else str(Path(path).resolve())


def check_others(plan: Plan, store: Store, state: LogState, pruned: Sequence[PrunedShard] = ()) -> None:
    """Raise ConflictError, which says why, where units are there that this plan does not make, or makes differently.

    Args:
        pruned: units of these shards are going to be removed.
    """
    shards = {each.shard for each in pruned}
    others = [each for each in state.others.values() if each.shard not in shards]
    if not others:
        return
    unknown = [each for each in others if not each.planned]
    count = sum(len(each.names) for each in others)
    what = "this plan does not make" if unknown else "this plan makes otherwise"
    first = short_repr((unknown or others)[0].names[0])
    before = earlier_manifest(store)
    why = (difference_text(before, plan) if before else "") or "another recipe, seed, operator, model or --limit"
    remedy = "undo that, or choose another output"
    if pruned_shards(plan, before, state):
        remedy = "undo that, run with --prune to remove what was made of it, or choose another output"
    total = count + int(state.done.sum()) + len(state.damaged)
    raise ConflictError(f"{store.uri} holds {count} of {total} units that {what} ({first}): {why}; {remedy}")


def rewritten_shards(plan: Plan, before: Manifest | None) -> list[str]:
    """Return the shards whose files were written again since the last run with the same footers and hashed columns."""
    records = before.shards if before else ()
    known = {(record.uri, record.path, record.digest): record for record in records if record.file_version}
    found = []
    for shard in plan.shards:
        record = known.get((shard.uri, shard.path, shard.digest))
        if record is None or not shard.file_version or record.file_version == shard.file_version:
            continue
        if not changed_columns(tuple(record.columns.items()), shard.columns):
            found.append(shard.path)
    return found
