"""Seeds: each is a pure function of recipe seed, shard, row, branch, copy and step, so every run draws the same."""

import hashlib
import json
from collections.abc import Sequence

import numpy as np


def canonical_json(value: object) -> str:
    """Return the canonical JSON of `value`: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: object) -> str:
    """Return the sha256 (64 hex digits) of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def sample_id(run_seed: int, shard: str, row: int, branch: str, copy: int, attempt: int = 0) -> str:
    """Return the id (32 hex digits) of one image made from a source row; all its seeds are derived from it.

    Args:
        shard: path of the source shard relative to its root, so that moving the data changes nothing.
    """
    return digest(["row", run_seed, shard, row, branch, copy, attempt])[:32]


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
