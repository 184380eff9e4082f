"""Differences between the plan that made an output, as its manifest records it, and the plan of now."""

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.messages import listed, short_repr
from pipeline.packages import package_from
from pipeline.plan import Plan
from pipeline.publishing.manifest import build_manifest
from pipeline.shards.identity import changed_columns
from schemas.manifest import Manifest, ShardRecord

MAX_NAMED = 3
"""Differences that a message names; it counts the rest."""
NOT_IN_BYTES = (
    "resources",
    "input.uri",
    "output.uri",
    "quality.max_quarantined_share",
    "quality.max_failed_units",
    "quality.unit_timeout_s",
)
"""Recipe fields that are not compared: no byte depends on them, or their effects are compared instead."""
ABSENT = "(absent)"


def difference_text(before: Manifest, plan: Plan) -> str:
    """Return the first differences between the plan of a manifest and `plan`, as text; empty without any."""
    found = list(dict.fromkeys(differences(before, plan)))
    more = f", and {len(found) - MAX_NAMED} more" if len(found) > MAX_NAMED else ""
    return "; ".join(found[:MAX_NAMED]) + more


def differences(before: Manifest, plan: Plan) -> Iterator[str]:
    """Yield every difference that may change a unit, as text, the likeliest cause first."""
    now = build_manifest(plan)
    if before.limit != now.limit:
        yield f"--limit was {_text(before.limit)}, and is {_text(now.limit)}"
    shards = list(_shards(before.shards, now.shards))
    yield from _places(before, now) if shards else ()
    yield from shards
    if (key := _key_id(before)) != _key_id(now):
        yield f"the watermark key was {_text(key)}, and is {_text(_key_id(now))}"
    was, given = _affecting_bytes(before.recipe), _affecting_bytes(now.recipe)
    yield from _branches(was.pop("branches", []), given.pop("branches"))
    yield from _values("", was, given)
    yield from _chains(before.chains, now.chains)
    if before.classes != now.classes:
        yield f"the classes were {short_repr(before.classes)}, and are {short_repr(now.classes)}"
    if before.palimpsest != now.palimpsest:
        yield f"it was made by Palimpsest {before.palimpsest}, and this is {now.palimpsest}"


def _places(before: Manifest, now: Manifest) -> Iterator[str]:
    """Yield differences of the place and the split of the input, which explain those of the shards."""
    was, given = before.recipe.get("input", {}), now.recipe["input"]
    for name in ("uri", "split"):
        yield from _values(f"input.{name}", was.get(name), given[name])
    if was.get("uri") == given["uri"] and before.recipe_base != now.recipe_base:
        yield f"the recipe was in {_text(before.recipe_base)}, and is in {_text(now.recipe_base)}"


def _shards(before: list[ShardRecord], now: list[ShardRecord]) -> Iterator[str]:
    """Yield differences of the shards by kind: the first shard, and the number of others."""
    there = {record.path: record for record in now}
    gone = [record.path for record in before if record.path not in there]
    pairs = [(record, there[record.path]) for record in before if record.path in there]
    footers = [(old, new) for old, new in pairs if old.digest != new.digest]
    hashed = [(old, _changed_columns(old, new)) for old, new in pairs if old.digest == new.digest]
    columns = [(old.path, names) for old, names in hashed if names]
    if gone:
        yield f"{_first(gone)} no longer in the input"
    if footers:
        sizes = _bytes(footers[0][0].bytes, footers[0][1].bytes)
        yield f"{_first([old.path for old, _ in footers], 'has', 'have')} changed since ({sizes})"
    if columns:
        yield f"{_first([path for path, _ in columns], 'has', 'have')} changed since, in column {listed(columns[0][1])}"
    if any(not record.columns for record in before) and any(record.columns for record in now):
        yield "it was made by an earlier version, which did not hash labels and other columns of the shards"


def _changed_columns(before: ShardRecord, now: ShardRecord) -> list[str]:
    return changed_columns(tuple(before.columns.items()), tuple(now.columns.items()))


def _first(paths: list[str], one: str = "is", many: str = "are") -> str:
    """Return the first shard and the number of the others with a verb: `shard a and 2 more have`."""
    more = len(paths) - 1
    return f"shard {paths[0]} and {more} more {many}" if more else f"shard {paths[0]} {one}"


def _bytes(before: int, now: int) -> str:
    return f"{before} bytes then, {now} now" if before != now else "of the same size, with another footer"


def _key_id(manifest: Manifest) -> str | None:
    return (manifest.watermark or {}).get("key_id")


def _affecting_bytes(recipe: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    found = {}
    for name, value in recipe.items():
        where = f"{place}.{name}" if place else name
        if where not in NOT_IN_BYTES:
            found[name] = _affecting_bytes(value, where) if isinstance(value, Mapping) else value
    return found


def _branches(before: list[dict[str, Any]], now: list[dict[str, Any]]) -> Iterator[str]:
    """Yield differences of the branches that there were; a further one changes none of them."""
    there = {branch["name"]: branch for branch in now}
    for index, branch in enumerate(before):
        if branch["name"] in there:
            yield from _values(f"branches[{index}]", branch, there[branch["name"]])
        else:
            yield f"branch {branch['name']} is no longer in the recipe"


def _chains(before: list[dict[str, Any]], now: list[dict[str, Any]]) -> Iterator[str]:
    """Yield differences of operators, gates and their files, which depend on code and disk, not on the recipe."""
    there = {chain.get("name"): chain for chain in now}
    for chain in before:
        other = there.get(chain.get("name"), {})
        for kind, label in (("steps", "operator"), ("gates", "gate")):
            for old, new in zip(chain.get(kind, ()), other.get(kind, ()), strict=False):
                if (name := old.get(label)) != new.get(label):
                    continue
                if old.get("version") != new.get("version"):
                    yield f"{label} {name} was version {old.get('version')}, and is {new.get('version')}"
                if (was := _package(old)) != (now_is := _package(new)):
                    yield f"{label} {name} was {was}, and is {now_is}"
                yield from _files(f"{label} {name}", old, new)
        if chain.get("micro_batch") != other.get("micro_batch", chain.get("micro_batch")):
            yield f"branch {chain.get('name')}: micro_batch was {chain['micro_batch']}, and is {other['micro_batch']}"


def _package(record: Mapping[str, Any]) -> str:
    package = record.get("package")
    return "built in" if package is None else package_from(package).short


def _files(part: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name, model in before.get("models", {}).items():
        other = now.get("models", {}).get(name)
        if other and other["sha256"] != model["sha256"]:
            yield f"the {name} of {part} ({model['reference']}) is another file"
    for name, images in before.get("images", {}).items():
        others = now.get("images", {}).get(name, ())
        if [image["sha256"] for image in images] != [image["sha256"] for image in others]:
            yield f"the {name} of {part} are other images ({len(images)} then, {len(others)} now)"


def _values(place: str, before: Any, now: Any) -> Iterator[str]:
    """Yield the places where two trees of mappings, lists and values differ."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name in dict.fromkeys([*before, *now]):
            yield from _values(f"{place}.{name}" if place else name, before.get(name, ABSENT), now.get(name, ABSENT))
    elif isinstance(before, list | tuple) and isinstance(now, list | tuple) and len(before) == len(now):
        for index, (old, new) in enumerate(zip(before, now, strict=True)):
            yield from _values(f"{place}[{index}]", old, new)
    elif before != now and (before is not ABSENT or place.startswith("branches")):  # else a later version's default
        yield f"{place} was {_given(before)}, and is {_given(now)}"


def _given(value: Any) -> str:
    """Return a value of a recipe as text; None means that the field is not given."""
    return "not given" if value is None else _text(value)


def _text(value: Any) -> str:
    return "none" if value is None else value if value is ABSENT else short_repr(value, 60)
