"""Why an output does not belong to a plan: what its manifest says of the run before, against the plan of now."""

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.plan import Plan
from pipeline.publishing.manifest import build_manifest
from pipeline.shards.identity import changed_columns
from pipeline.texts import shortened
from schemas.manifest import Manifest, ShardRecord

NAMED = 3
"""Differences that a message names; the rest are counted."""
SPEED_ONLY = (
    "resources",
    "input.uri",
    "output.uri",
    "quality.max_quarantined_share",
    "quality.max_failed_units",
)
"""Parts of a recipe that no byte depends on, or that show in what they lead to."""
ABSENT = "(absent)"


def causes(before: Manifest, plan: Plan) -> str:
    """Return the first differences between what was made before and what `plan` makes, as text; empty without any."""
    found = list(dict.fromkeys(differences(before, plan)))
    more = f", and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return "; ".join(found[:NAMED]) + more


def differences(before: Manifest, plan: Plan) -> Iterator[str]:
    """Yield every difference that may change a unit, the likeliest cause first."""
    now = build_manifest(plan, {}, complete=False)
    yield from _shards(before.shards, now.shards)
    if before.limit != now.limit:
        yield f"--limit was {_text(before.limit)}, and is {_text(now.limit)}"
    if (key := _key_id(before)) != _key_id(now):
        yield f"the watermark key was {_text(key)}, and is {_text(_key_id(now))}"
    yield from _values("", _that_counts(before.recipe), _that_counts(now.recipe))
    yield from _chains(before.chains, now.chains)
    if before.classes != now.classes:
        yield f"the classes were {shortened(before.classes)}, and are {shortened(now.classes)}"
    if before.palimpsest != now.palimpsest:
        yield f"it was made by Palimpsest {before.palimpsest}, and this is {now.palimpsest}"


def _shards(before: list[ShardRecord], now: list[ShardRecord]) -> Iterator[str]:
    there = {record.path: record for record in now}
    for record in before:
        other = there.get(record.path)
        if other is None:
            yield f"shard {record.path} is no longer in the input"
        elif record.digest != other.digest:
            yield f"shard {record.path} has changed since ({_bytes(record.bytes, other.bytes)})"
        elif names := changed_columns(tuple(record.columns.items()), tuple(other.columns.items())):
            yield f"shard {record.path} has changed since, in column {', '.join(names)}"
    if any(not record.columns for record in before) and any(record.columns for record in now):
        yield "it was made by an earlier version, which did not hash labels and other columns of the shards"


def _bytes(before: int, now: int) -> str:
    return f"{before} bytes then, {now} now" if before != now else "of the same size, with another footer"


def _key_id(manifest: Manifest) -> str | None:
    return (manifest.watermark or {}).get("key_id")


def _that_counts(recipe: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    found = {}
    for name, value in recipe.items():
        where = f"{place}.{name}" if place else name
        if where not in SPEED_ONLY:
            found[name] = _that_counts(value, where) if isinstance(value, Mapping) else value
    return found


def _chains(before: list[dict[str, Any]], now: list[dict[str, Any]]) -> Iterator[str]:
    """Operators, gates and files: what a recipe does not say, since it follows from the code and the disk."""
    there = {chain.get("name"): chain for chain in now}
    for chain in before:
        other = there.get(chain.get("name"), {})
        for kind, label in (("steps", "operator"), ("gates", "gate")):
            for old, new in zip(chain.get(kind, ()), other.get(kind, ()), strict=False):
                if (name := old.get(label)) != new.get(label):
                    continue
                if old.get("version") != new.get("version"):
                    yield f"{label} {name} was version {old.get('version')}, and is {new.get('version')}"
                yield from _files(f"{label} {name}", old, new)
        if chain.get("micro_batch") != other.get("micro_batch", chain.get("micro_batch")):
            yield f"branch {chain.get('name')}: micro_batch was {chain['micro_batch']}, and is {other['micro_batch']}"


def _files(who: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name, model in before.get("models", {}).items():
        other = now.get("models", {}).get(name)
        if other and other["sha256"] != model["sha256"]:
            yield f"the {name} of {who} ({model['reference']}) is another file"
    for name, images in before.get("images", {}).items():
        others = now.get("images", {}).get(name, ())
        if [image["sha256"] for image in images] != [image["sha256"] for image in others]:
            yield f"the {name} of {who} are other images ({len(images)} then, {len(others)} now)"


def _values(place: str, before: Any, now: Any) -> Iterator[str]:
    """Yield where two trees of plain values differ."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name in dict.fromkeys([*before, *now]):
            yield from _values(f"{place}.{name}" if place else name, before.get(name, ABSENT), now.get(name, ABSENT))
    elif isinstance(before, list | tuple) and isinstance(now, list | tuple) and len(before) == len(now):
        for index, (old, new) in enumerate(zip(before, now, strict=True)):
            yield from _values(f"{place}[{index}]", old, new)
    elif before != now and (before is not ABSENT or place.startswith("branches")):  # else a later version's default
        yield f"{place} was {_text(before)}, and is {_text(now)}"


def _text(value: Any) -> str:
    return "none" if value is None else value if value is ABSENT else shortened(value, 60)
