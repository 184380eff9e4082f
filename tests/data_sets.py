"""Small recipes, and the whole run over them in this process, for everybody's tests."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from pipeline.audit.verify import verify_dataset
from pipeline.executor import run_inline
from pipeline.plan import Plan, make_plan
from pipeline.planning.recipes import load_recipe
from pipeline.publish import prepare, publish
from pipeline.shards.output.store import open_store
from pipeline.unit.job import Job
from schemas.manifest import Failure, Manifest, Marker
from tests.shard_files import photos, write_shard

FLIP: dict[str, Any] = {"name": "flipped", "copies": 2, "operators": [{"flip": {"probability": 0.5}}]}
CLASSES = ("cat", "dog", "owl")


def write_input(folder: Path, shards: int = 2, rows: int = 24) -> Path:
    """Write labelled shards with ids; return their folder."""
    for index in range(shards):
        write_shard(
            folder / f"train-{index:05d}.parquet",
            photos(rows, seed=index),
            labels=[row % 3 for row in range(rows)],
            ids=[f"{index}-{row}" for row in range(rows)],
            class_names=CLASSES,
            row_group=10,
        )
    return folder


def write_recipe(folder: Path, branches: list[dict[str, Any]] | None = None, **sections: Any) -> Path:
    """Write a recipe over `folder/data/`; a mapping is merged into its section. Return its path."""
    recipe: dict[str, Any] = {
        "version": 1,
        "seed": 7,
        "input": {"uri": "data/*.parquet"},
        "output": {"uri": "out", "rows_per_unit": 10},
        "watermark": "none",
        "branches": branches or [FLIP],
    }
    for name, value in sections.items():
        before = recipe.get(name)
        merged = isinstance(value, Mapping) and isinstance(before, Mapping)
        recipe[name] = {**before, **value} if merged else value
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    return path


def plan_of(recipe: Path, limit: int | None = None, **changes: str) -> Plan:
    """Return the plan of a recipe file; `changes` are `--set`, with `__` for a dot."""
    overrides = [f"{key.replace('__', '.')}={value}" for key, value in changes.items()]
    loaded, base = load_recipe(str(recipe), overrides)
    return make_plan(loaded, base, limit)


def run_here(plan: Plan) -> tuple[Manifest, list[Marker | Failure]]:
    """Run what is missing of a plan in this process, and publish."""
    store = open_store(plan.output)
    done = prepare(plan, store)
    missing = [unit for unit in plan.units if unit.name not in done]
    outcomes = list(run_inline(Job.of(plan), plan.branches, missing))
    return publish(plan, store), outcomes


def findings(out: Path, key: bytes | None = None) -> list[str]:
    """Return what `verify` finds wrong with a data set."""
    return verify_dataset(open_store(str(out)), key).findings


def contents(out: Path, *folders: str) -> dict[str, bytes]:
    """Return the bytes of every Parquet file of a data set."""
    folders = folders or ("data", "rejected", "quarantine")
    files = [path for folder in folders for path in (out / folder).glob("*.parquet")]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(files)}


def rows_of(out: Path, folder: str = "data") -> list[dict[str, Any]]:
    """Return all rows of one folder of a data set, in order of file and row."""
    tables = [pq.read_table(path) for path in sorted((out / folder).glob("*.parquet"))]
    rows: list[dict[str, Any]] = pa.concat_tables(tables).to_pylist() if tables else []
    return rows
