"""Recipes of random keys, values and types, as YAML: a seed and an index give the same text."""

import copy
import datetime
import random
from typing import Any

import yaml

_PLAIN: dict[str, Any] = {
    "version": 1,
    "seed": 7,
    "watermark": "none",
    "input": {"uri": "in", "columns": {"image": "image", "label": "label"}, "max_pixels": 1_000_000},
    "output": {"uri": "out", "encoding": "png", "rows_per_unit": 4, "size": "source"},
    "branches": [
        {"name": "b", "copies": 2, "operators": [{"flip": {"probability": 0.5}}]},
        {"name": "c", "where": "label < 2", "operators": [{"classical": {"policy": "trivial_augment"}}]},
    ],
    "quality": {"max_attempts": 2, "gates": [{"blank": {}}], "max_quarantined_share": 0.5, "max_failed_units": 2},
    "resources": {"flip": {"cpus": 1, "actors": 1}},
    "numerics": {"threads": 1, "micro_batch": 4},
}
_WORDS = (
    "flip", "classical", "color_transfer", "mix_style", "blank", "sharpness", "image", "label", "id", "out", "in",
    "png", "jpeg", "webp", "source", "rgb", "grey", "none", "b", "original", "train", "label == 1", "label in (0, 1)",
    "a" * 300, "", " ", "~", "..", "../in", "/dev/null", "in/*.parquet", "in/{a,b}.parquet", "[", "{", "nosuch://x", "file://",
    "builtin:fashion-mnist", "builtin:none", "1e400", "0x10", "yes", "\x1b[2J", "\u202e", "e\u0301", "$HOME",
    "%s", "null",
)  # fmt: skip
_NUMBERS = (0, 1, 2, 3, -1, 7, 64, 255, 2**31, 2**63, -(2**63), 10**30, 0.0, 0.5, 1.0, -0.5, 1e-300, 1e300)
_ODD = (None, True, False, float("nan"), float("inf"), float("-inf"), datetime.date(2026, 1, 1), b"\xff\x00")
_KEYS = (
    "uri", "split", "columns", "class_names", "drop", "max_pixels", "allow_paths", "allow_urls", "max_image_bytes",
    "passthrough", "bit_depth", "encoding", "quality", "rows_per_unit", "keep_originals", "size", "channels", "name",
    "copies", "per_class", "count", "where", "operators", "gates", "max_attempts", "scheme", "psnr_db", "gpus", "cpus",
    "actors", "micro_batch", "threads", "dtype", "tf32", "version", "seed", "probability", "axis", "policy",
    "x", "<<", "",
)  # fmt: skip


def random_recipe(seed: int, index: int) -> str:
    """Return the text of case `index` of a seed: a recipe with one to six things changed."""
    rng = random.Random(f"recipe {seed} {index}")
    recipe: Any = copy.deepcopy(_PLAIN)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        place, key = rng.choice(list(_places(recipe)))
        what = rng.random()
        if what < 0.5:
            place[key] = _value(rng, 0)
        elif what < 0.65:
            del place[key]
        elif what < 0.8 and isinstance(place, dict):
            place[_key(rng)] = _value(rng, 0)
        elif isinstance(place, list):
            place.insert(0, copy.deepcopy(rng.choice(place)) if rng.random() < 0.5 else _value(rng, 0))
        else:
            other, source = rng.choice(list(_places(recipe)))
            place[key] = copy.deepcopy(other[source])
        if not recipe:
            break
    text: str = yaml.safe_dump(recipe, allow_unicode=rng.random() < 0.5, sort_keys=False)
    return text


def _places(value: Any) -> Any:
    """Yield (container, key) of everything in a recipe."""
    for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)


def _key(rng: random.Random) -> Any:
    return rng.choice((*_KEYS, *_WORDS)) if rng.random() < 0.9 else rng.choice((*_NUMBERS, None, True))


def _value(rng: random.Random, depth: int) -> Any:
    what = rng.random()
    if what < 0.35:
        return rng.choice(_WORDS)
    if what < 0.6:
        return rng.choice(_NUMBERS)
    if what < 0.75 or depth > 3:
        return rng.choice(_ODD)
    if what < 0.88:
        return [_value(rng, depth + 1) for _ in range(rng.choice((0, 1, 2, 3)))]
    return {_key(rng): _value(rng, depth + 1) for _ in range(rng.choice((0, 1, 2)))}
