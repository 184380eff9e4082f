"""`bench profile`: where the time of a unit goes, for several kinds of work, one process each in turn.

Each case is a few units, made as a worker makes them, under Python's profiler after a first unit that warms up. Shares
are of the wall time: decoding, the operator, the watermark (with its reading back), encoding, hashing, the Parquet
files, reading, rows and lineage; and `waits`, the part of all these in which the process had no processor: it waits for
a disk, or for others on the same machine.
"""

import cProfile
import datetime
import pstats
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from jobs.bench.comparison import limited_cores
from jobs.bench.machine import commit, machine, versions

KEY: Final = bytes(range(32))  # of the marks; nothing that is made is kept
STEPS: Final = 4
_PARTS: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "read": (("shards/cursor.py", "read"), ("shards/reader.py", "_window")),
    "decode": (("execution/window.py", "_decoded"),),
    "operator": (("execution/chain.py", "run_chain"), ("execution/gate_scores.py", "score_gates")),
    "mark": (("execution/watermarking.py", "embed"), ("execution/watermarking.py", "records")),
    "encode": (("images/codecs.py", "encode"), ("execution/output_rows.py", "sized")),
    "write": (("output/unit_files.py", "add"), ("output/unit_files.py", "publish")),
}
"""The functions of each part, by the end of their file and their name: none of them calls another."""
COLUMNS: Final = ("read", "decode", "operator", "mark", "encode", "hash", "write", "rows")


@dataclass(frozen=True)
class Case:
    """One kind of work: a recipe's parts, and how many images are made."""

    branch: dict[str, Any]
    images: int
    size_px: int | None = None  # of the bench's own images; None: the embedded ones, or none
    output: dict[str, Any] | None = None
    marked: bool = False


_FLIP: Final = {"name": "light", "operators": [{"flip": {"probability": 1}}]}
_JPEG: Final = {"encoding": "jpeg"}
CASES: Final = {
    "light, JPEG": Case(_FLIP, 2_048, 256, _JPEG),
    "light, JPEG, marked": Case(_FLIP, 512, 256, _JPEG, marked=True),
    "light, PNG": Case(_FLIP, 1_024, 256, {"encoding": "png"}),
    "AdaIN 128 px": Case({"name": "adain", "operators": [{"adain_style": {}}]}, 96, 128, _JPEG),
    "GAN 28 px": Case({"name": "gan", "per_class": 100, "operators": [{"gan_synth": {}}]}, 1_000),
    "diffusion 28 px": Case(
        {"name": "paint", "per_class": 16, "operators": [{"diffusion_generate": {"steps": STEPS}}]}, 160
    ),
}


def measure(share: float = 1.0) -> dict[str, Any]:
    """Return images per second and shares of each case; `share` of its images, for tests."""
    found = {}
    with limited_cores(1):
        for name, case in CASES.items():
            print(f"bench profile: {name}", file=sys.stderr)
            with tempfile.TemporaryDirectory(prefix="palimpsest-bench-") as folder:
                found[name] = measure_case(case, Path(folder), max(16, int(case.images * share)))
    return {
        "bench": "profile",
        "cases": found,
        "machine": machine(),
        "commit": commit(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions(),
    }


def measure_case(case: Case, folder: Path, images: int) -> dict[str, Any]:
    """Make the units of a case in this process; return its images per second, and the share of each part."""
    from pipeline.execution.job import Job, LoadedBranch
    from pipeline.execution.runner import run_unit
    from pipeline.planning.planner import make_plan
    from pipeline.publishing.prepare import prepare
    from pipeline.shards.output.store import open_store
    from pipeline.validation import parse
    from pipeline.watermark_key import key_id
    from schemas.recipe import Recipe

    recipe = parse(Recipe, recipe_of(case, folder, images), "recipe")
    plan = make_plan(recipe, str(folder), images if case.size_px else None, key_id(KEY) if case.marked else None)
    prepare(plan, open_store(plan.output))
    branch = LoadedBranch.load(Job.of(plan), plan.branches[0], "cpu", KEY if case.marked else None)
    warm, *units = plan.units
    run_unit(branch, warm)
    profile = cProfile.Profile()
    started, processor = time.perf_counter(), time.process_time()
    rows = sum(profile.runcall(run_unit, branch, unit).accepted for unit in units)
    seconds, processor = time.perf_counter() - started, time.process_time() - processor
    return {
        "images": rows,
        "images_per_s": round(rows / seconds, 1),
        "shares": {part: round(spent / seconds, 3) for part, spent in seconds_by_part(profile, seconds).items()},
        "waits": round(max(0.0, 1 - processor / seconds), 3),
    }


def recipe_of(case: Case, folder: Path, images: int) -> dict[str, Any]:
    """Return the recipe of a case: units of an eighth of its images."""
    from jobs.bench.contestants.task import Case as InputCase
    from jobs.bench.inputs import synthetic_shards

    branch = dict(case.branch)
    uri = "builtin:fashion-mnist"
    if case.size_px:
        uri = str(synthetic_shards(InputCase(branch["name"], images, case.size_px), images))
    else:
        branch["per_class"] = max(2, images // 10)
    output = {"uri": str(folder / "out"), "rows_per_unit": max(1, images // 8), **(case.output or {})}
    return {
        "version": 1,
        "seed": 0,
        "input": {"uri": uri},
        "output": output,
        "branches": [branch],
        "watermark": {"scheme": "stdm"} if case.marked else "none",
        "numerics": {"threads": 1},
    }


def seconds_by_part(profile: cProfile.Profile, seconds: float) -> dict[str, float]:
    """Return the seconds of each part; `rows` is what no other part has."""
    stats: Any = pstats.Stats(profile)
    found = dict.fromkeys(COLUMNS, 0.0)
    for (file, _, name), (_, _, own, total, callers) in stats.stats.items():
        for part, functions in _PARTS.items():
            if any(file.endswith(end) for end, known in functions if known == name):
                found[part] += total
        if "_hashlib" in name:
            found["hash"] += own
        if name == "decode" and file.endswith("images/codecs.py"):  # what is stored is read back for its mark
            found["mark"] += sum(of[3] for caller, of in callers.items() if caller[0].endswith("output_rows.py"))
        if name == "sha256_file":
            found["write"] -= total
    found["rows"] = max(0.0, seconds - sum(found.values()))
    return found


def as_text(found: dict[str, Any]) -> str:
    """Return the shares as a table."""
    lines = [f"one process, {found['machine']}, commit {found['commit'][:12]}", ""]
    lines.append(f"{'':<22}{'images/s':>10}" + "".join(f"{name:>10}" for name in (*COLUMNS, "waits")))
    for name, case in found["cases"].items():
        shares = (*(case["shares"][column] for column in COLUMNS), case["waits"])
        lines.append(f"{name:<22}{case['images_per_s']:>10.1f}" + "".join(f"{share:>10.1%}" for share in shares))
    return "\n".join(lines)
