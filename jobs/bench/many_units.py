"""What a million units cost the driver: `python -m jobs.bench.many_units --units 1000000 --folder DIR`.

The input is real. The units that are there are not made: each is a record in the commit log and a data file of one
byte, which is all that a plan, a resume and a publish look at. Every phase runs in a process of its own, whose wall
time and peak memory are printed as JSON.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

SHARD_ROWS = 1_000
RECORDS_AT_ONCE = 1_024
PHASES = ("plan", "fill_half", "resume", "fill_all", "publish", "publish_again")


def main() -> None:
    """Run every phase, and print what each cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, required=True, help="an empty folder with room for as many files")
    parser.add_argument("--phase", choices=PHASES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.phase is None:
        write_input(options.folder, options.units)
        for phase in PHASES:
            command = [sys.executable, "-m", "jobs.bench.many_units", "--folder", str(options.folder)]
            subprocess.run([*command, "--phase", phase], check=True)
        return
    started = time.perf_counter()
    steps: dict[str, Callable[[Path], dict[str, Any]]] = {
        "plan": plan,
        "fill_half": lambda folder: fill(folder, half=True),
        "resume": resume,
        "fill_all": lambda folder: fill(folder, half=False),
        "publish": publish,
        "publish_again": publish,
    }
    found = steps[options.phase](options.folder)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds = time.perf_counter() - started
    print(
        json.dumps({"phase": options.phase, "seconds": round(seconds, 1), "peak_mib": round(peak), **found}), flush=True
    )


def write_input(folder: Path, rows: int) -> None:
    """Write shards of 1,000 rows, one image in all of them, and the recipe."""
    import io

    out = io.BytesIO()
    Image.new("L", (4, 4)).save(out, "PNG")
    (folder / "in").mkdir(parents=True)
    for first in range(0, rows, SHARD_ROWS):
        count = min(SHARD_ROWS, rows - first)
        table = pa.table(
            {"image": [out.getvalue()] * count, "label": [0] * count, "id": [*range(first, first + count)]}
        )
        pq.write_table(table, folder / f"in/train-{first // SHARD_ROWS:06d}.parquet")
    recipe = {
        "version": 1,
        "seed": 7,
        "input": {"uri": "in/*.parquet"},
        "output": {"uri": "out", "rows_per_unit": 1},
        "watermark": "none",
        "branches": [{"name": "flipped", "copies": 1, "operators": [{"flip": {}}]}],
    }
    (folder / "recipe.yaml").write_text(json.dumps(recipe))


def _planned(folder: Path) -> Any:
    from pipeline.planning.planner import make_plan
    from pipeline.planning.recipe_file import load_recipe

    recipe, base = load_recipe(str(folder / "recipe.yaml"))
    return make_plan(recipe, base)


def plan(folder: Path) -> dict[str, Any]:
    """Plan the recipe."""
    return {"units": len(_planned(folder).units)}


def fill(folder: Path, half: bool) -> dict[str, Any]:
    """Put records and one-byte files of the first half of the units, or of all others, where a run would put them."""
    from pipeline.shards.output.commit_log import append
    from pipeline.shards.output.store import open_store

    planned = _planned(folder)
    store, middle = open_store(planned.output), len(planned.units) // 2
    (folder / "out/data").mkdir(parents=True, exist_ok=True)
    units = planned.units[:middle] if half else planned.units[middle:]
    waiting = []
    for record in _records(units, folder / "out"):
        waiting.append(record)
        if len(waiting) == RECORDS_AT_ONCE:
            append(store, waiting)
            waiting = []
    append(store, waiting)
    return {"units": len(units)}


def _records(units: Any, out: Path) -> Iterator[Any]:
    import hashlib

    from pipeline.shards.output.unit_files import file_path
    from schemas.manifest import FileRecord, UnitRecord

    for unit in units:
        sha256 = hashlib.sha256(unit.name.encode()).hexdigest()
        path = file_path("data", unit.name, sha256)
        (out / path).write_bytes(b"x")
        yield UnitRecord(
            unit=unit.name, digest=unit.digest, branch=unit.branch, shard=unit.shard.path, first=unit.first,
            rows=unit.rows, selected=unit.rows, copies=1, accepted=unit.rows, rejected=0, quarantined=0,
            files={"data": FileRecord(path=path, rows=unit.rows, bytes=1, sha256=sha256)}, device="cpu", run=1,
            sample_ids=bytes.fromhex(sha256)[:16], payloads=bytes(8),
        )  # fmt: skip


def resume(folder: Path) -> dict[str, Any]:
    """Plan, and find what is missing."""
    from pipeline.publishing.prepare import prepare
    from pipeline.shards.output.store import open_store

    planned = _planned(folder)
    started = time.perf_counter()
    prepared = prepare(planned, open_store(planned.output))
    seconds = time.perf_counter() - started
    return {"missing": len(prepared.missing()), "without_the_plan_s": round(seconds, 1)}


def publish(folder: Path) -> dict[str, Any]:
    """Plan, and publish what is there."""
    from pipeline.publishing.finalise import finalise
    from pipeline.shards.output.store import open_store

    planned = _planned(folder)
    store, started = open_store(planned.output), time.perf_counter()
    published = finalise(planned, store, 1)
    published.log.remove_merged()
    seconds = time.perf_counter() - started
    return {"complete": published.manifest.complete, "without_the_plan_s": round(seconds, 1)}


if __name__ == "__main__":
    main()
