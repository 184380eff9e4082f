"""A small run with gates, and what tests ask of one."""

import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.shards.output.commit import sha256_file
from tests.data_sets import FLIP, plan_of, rows_of, run_here, write_input, write_recipe

SIMILARITY: dict[str, Any] = {"similarity": {"most": 0.98}}
GATED = {"gates": [SIMILARITY, {"sharpness": {"least_ratio": 0.1}}, {"blank": {}}], "max_attempts": 3}
GATES = ["similarity", "sharpness", "blank"]


def gated_run(folder: Path) -> Path:
    """Flip 48 images twice with probability one half; what did not change is refused. Return `folder`."""
    write_input(folder / "data")
    run_here(plan_of(write_recipe(folder, [FLIP], output={"keep_originals": True}, quality=GATED)))
    return folder


def attempts_of(out: Path, branch: str = "flipped") -> dict[tuple[str, int], list[dict[str, Any]]]:
    """Every attempt at every image of a branch, in order, by source id and copy."""
    found: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for row in rows_of(out) + rows_of(out, "rejected"):
        if row["branch"] == branch:
            found[row["source_id"], row["copy_index"]].append(row)
    return {image: sorted(rows, key=lambda row: row["attempt"]) for image, rows in found.items()}


def first(out: Path, folder: str) -> Path:
    return sorted((out / folder).glob("flipped-*.parquet"))[0]


def rewrite(out: Path, folder: str, column: str, change: Callable[[list[Any]], list[Any]]) -> None:
    """Change a column of the first unit's file, and let its marker name the new file."""
    path = first(out, folder)
    table = pq.read_table(path)
    index = table.schema.get_field_index(column)
    field = table.schema.field(index)
    values = pq.read_table(path).column(index).to_pylist()
    pq.write_table(table.set_column(index, field, pa.array(change(values), field.type)), path)
    mark(out, lambda marker: marker["files"][folder].update(sha256=sha256_file(path), bytes=path.stat().st_size))


def mark(out: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = out / f"_commits/{first(out, 'data').stem}.json"
    marker = json.loads(path.read_text())
    change(marker)
    path.write_text(json.dumps(marker))
