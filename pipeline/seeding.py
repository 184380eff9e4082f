"""Seeds: each is a pure function of recipe seed, shard, row, branch, copy and step, so every run draws the same."""

import functools
import hashlib
import itertools
import json
from collections.abc import Iterable, Sequence

import numpy as np

_AT_ONCE = 1_000
"""Values of a list that are turned into JSON at a time."""


_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(value: object) -> str:
    """Return the canonical JSON of `value`: sorted keys, no spaces, no NaN."""
    return _canonical.encode(value)


@functools.lru_cache(maxsize=256)
def _json_text(text: str) -> str:
    return canonical_json(text)


def digest(value: object) -> str:
    """Return the sha256 (64 hex digits) of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def digest_of_list(values: Iterable[object]) -> str:
    """Return `digest(list(values))`, without holding the list or its JSON."""
    made = hashlib.sha256(b"[")
    between, left = b"", iter(values)
    while some := list(itertools.islice(left, _AT_ONCE)):
        made.update(between + canonical_json(some)[1:-1].encode())
        between = b","
    made.update(b"]")
    return made.hexdigest()


def digests_of_lists(
    before: Sequence[object], numbers: Iterable[tuple[int, int]], after: Sequence[object]
) -> bytearray:
    """Return the sha256 (32 bytes each) of the canonical JSON of `[*before, *pair, *after]` for each pair of numbers.

    `before`, which must not be empty, is turned into JSON and hashed once.
    """
    begun = hashlib.sha256(canonical_json(before)[:-1].encode())
    end = "".join(f",{canonical_json(value)}" for value in after) + "]"
    found = bytearray()
    for first, second in numbers:
        made = begun.copy()
        made.update(f",{first},{second}{end}".encode())
        found += made.digest()
    return found


def sample_id(run_seed: int, shard: str, row: int, branch: str, copy: int, attempt: int = 0) -> str:
    """Return the id (32 hex digits) of one image made from a source row; all its seeds are derived from it.

    Args:
        shard: path of the source shard relative to its root, so that moving the data changes nothing.
    """
    # The canonical JSON of ["row", run_seed, shard, row, branch, copy, attempt].
    text = f'["row",{run_seed},{_json_text(shard)},{row},{_json_text(branch)},{copy},{attempt}]'
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def synthetic_id(run_seed: int, branch: str, label: int | str | None, index: int, attempt: int = 0) -> str:
    """Return the id (32 hex digits) of one image made without a source row."""
    return digest(["new", run_seed, branch, label, index, attempt])[:32]


def step_seed(sample: str, step: int) -> int:
    """Return the seed of step `step` of sample `sample`: an integer in [0, 2^63)."""
    return int.from_bytes(hashlib.sha256(f"{sample}/{step}".encode()).digest()[:8], "big") >> 1


def partner_seed(sample: str, step: int) -> int:
    """Return the seed that draws the partner row of step `step` of sample `sample`."""
    return step_seed(f"{sample}/partner", step)


def generators(seeds: Sequence[int]) -> list[np.random.Generator]:
    """Return one counter-based NumPy generator (Philox) a seed; their streams do not depend on each other."""
    return [np.random.Generator(np.random.Philox(key=int(seed))) for seed in seeds]
