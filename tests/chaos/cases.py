"""Fuzzed cases, run in this process: `python -m tests.chaos.cases KIND SEED FIRST COUNT FOLDER`.

A case that is neither made nor refused as documented is a line on stdout. The case that is being run is in `FOLDER/at`,
so that whoever started this process knows what ended it.
"""

import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import palimpsest
from pipeline.errors import JobError, PalimpsestError, RowError, RunError
from pipeline.shards.images.codecs import decode
from schemas.manifest import Failure, UnitRecord
from tests.chaos.images import MAX_PIXELS, broken_image
from tests.chaos.parquet_files import broken_shard
from tests.chaos.recipes import random_recipe
from tests.fixtures.shard_files import STRUCT, photos, write_shard

CASE_S = 20.0
"""Seconds that one case may take."""
ROWS_PER_UNIT = 8
_QUALITY = {"max_quarantined_share": 1.0, "max_failed_units": 1_000}
_FLIP = [{"name": "b", "copies": 1, "operators": [{"flip": {}}]}]


def recipe(folder: Path, rows_per_unit: int) -> dict[str, Any]:
    """Return a recipe over `folder/in` that no number of broken rows or units stops."""
    return {
        "version": 1,
        "seed": 7,
        "watermark": "none",
        "input": {"uri": str(folder / "in")},
        "output": {"uri": str(folder / "out"), "rows_per_unit": rows_per_unit},
        "branches": _FLIP,
        "quality": _QUALITY,
    }


def images(seed: int, first: int, count: int, folder: Path) -> Iterator[tuple[int, str]]:
    """Yield (index, what is wrong): decoded alone, and then all as the rows of one shard."""
    data, good = [], set()
    for index in range(first, first + count):
        at(folder, index)
        data.append(broken_image(seed, index))
        try:
            pixels = decode(data[-1], MAX_PIXELS)
            good.add(index - first)
            if pixels.ndim != 3 or pixels.dtype != "uint8" or pixels.size == 0 or pixels.shape[2] not in (1, 3):
                yield index, f"decoded to {pixels.dtype} {pixels.shape}"
        except RowError:
            pass
        except Exception as error:
            yield index, f"{type(error).__name__}: {error}"
    at(folder, first + count)
    rows = pa.array([{"bytes": each, "path": None} for each in data], STRUCT)
    (folder / "in").mkdir()
    pq.write_table(pa.table({"image": rows, "label": [0] * count}), folder / "in/a.parquet")
    said, outcomes = made(folder, 64)
    if said:
        yield first, f"with {count - 1} others: {said}"
    if failed := [each for each in outcomes if isinstance(each, Failure)]:
        yield first, f"a unit of {count} images failed: {failed[0].error}"
    accepted, other = rows_in(folder, "data"), rows_in(folder, "rejected") + rows_in(folder, "quarantine")
    if (accepted, other) != (len(good), count - len(good)):
        yield first, f"{count} rows, {len(good)} decodable: {accepted} accepted, {other} refused"


def shards(seed: int, first: int, count: int, folder: Path) -> Iterator[tuple[int, str]]:
    """Yield (index, what is wrong) of runs over one broken Parquet file each."""
    for index in range(first, first + count):
        at(folder, index)
        (folder / "in").mkdir()
        (folder / "in/a.parquet").write_bytes(broken_shard(seed, index))
        said, outcomes = made(folder, ROWS_PER_UNIT)
        if said:
            yield index, said
        failed = [each for each in outcomes if isinstance(each, Failure)]
        for each in failed:
            last = each.traceback.strip().splitlines()[-1:] or [each.error]
            if "UnitError" not in last[0]:
                yield index, f"unit {each.unit} failed by another error than ours: {last[0]}"
        asked = sum(each.selected for each in outcomes if isinstance(each, UnitRecord))
        there = sum(rows_in(folder, each) for each in ("data", "rejected", "quarantine"))
        if there != asked:
            yield index, f"{asked} rows asked for, {there} in the output"
        shutil.rmtree(folder / "out", ignore_errors=True)
        shutil.rmtree(folder / "in")


def recipes(seed: int, first: int, count: int, folder: Path) -> Iterator[tuple[int, str]]:
    """Yield (index, what is wrong) of plans of one recipe each."""
    os.chdir(folder)
    write_shard(folder / "in/a.parquet", photos(3, 8, 8), [0, 1, 2])
    for index in range(first, first + count):
        at(folder, index)
        (folder / "recipe.yaml").write_text(random_recipe(seed, index))
        began = time.monotonic()
        try:
            palimpsest.plan(folder / "recipe.yaml")
        except JobError as error:
            if not str(error).isprintable() or len(str(error)) > 1_000:
                yield index, f"no plain line: {error!r}"
        except Exception as error:
            yield index, f"{type(error).__name__}: {error}"
        if time.monotonic() - began > CASE_S:
            yield index, f"{time.monotonic() - began:.0f} s"


def made(folder: Path, rows_per_unit: int) -> tuple[str, list[UnitRecord | Failure]]:
    """Run a recipe over `folder/in` here; return what is wrong (empty: nothing), and every unit that ended."""
    outcomes: list[UnitRecord | Failure] = []
    began = time.monotonic()
    try:
        palimpsest.run(recipe(folder, rows_per_unit), executor="inline", progress=outcomes.append)
    except (JobError, RunError) as error:
        if not str(error).isprintable():
            return f"no plain line: {error!r}", outcomes
    except PalimpsestError as error:
        return f"an error of one row or unit stopped the run: {error!r}", outcomes
    except Exception as error:
        return f"{type(error).__name__}: {error}", outcomes
    took = time.monotonic() - began
    return (f"{took:.0f} s" if took > CASE_S and rows_per_unit == ROWS_PER_UNIT else ""), outcomes


def rows_in(folder: Path, kind: str) -> int:
    return sum(pq.read_metadata(path).num_rows for path in (folder / "out" / kind).glob("*.parquet"))


def at(folder: Path, index: int) -> None:
    (folder / "at").write_text(str(index))


KINDS = {"images": images, "shards": shards, "recipes": recipes}


def main(kind: str, seed: str, first: str, count: str, folder: str) -> None:
    for index, said in KINDS[kind](int(seed), int(first), int(count), Path(folder)):
        print(f"{kind} {index}: {' '.join(said.split())[:600]}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
