"""Peak memory of this product with N rows and with ten times as many: the ratio says whether it grows with the data.

python -m jobs.bench.memory [--rows N] [--json]
"""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from jobs.bench.comparison import run_contestant
from jobs.bench.contestants.task import CASES, Task
from jobs.bench.inputs import synthetic_shards
from jobs.bench.machine import commit, machine
from pipeline.errors import PalimpsestError

ROWS = 2_048
TIMES = 10
MAX_GROWTH = 1.1


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the peaks and their ratio; 1 if one is above 1.1, 2 if a run failed."""
    parser = argparse.ArgumentParser(prog="python -m jobs.bench.memory", description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS, metavar="N", help=f"of the smaller run (default: {ROWS})")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    try:
        found = measure(options.rows)
    except PalimpsestError as error:
        print(f"memory: {error}", file=sys.stderr)
        return 2
    print(json.dumps(found) if options.json else as_text(found))
    return 0 if max(found["ratio"].values()) <= MAX_GROWTH else 1


def measure(rows: int, executor: str = "ray") -> dict[str, Any]:
    """Return the peaks (see `process_memory.Peak`, MiB) over `rows` and ten times `rows`, and their ratios."""
    case = CASES["light"]
    peaks = {}
    for count in (rows, rows * TIMES):
        print(f"memory: {count} rows", file=sys.stderr)
        task = Task(case.operator, str(synthetic_shards(case, count)), "", case.size_px, executor=executor)
        peaks[count] = run_contestant(task, "palimpsest").memory_mib
    few, many = peaks[rows], peaks[rows * TIMES]
    return {
        "bench": "memory",
        "peak_mib": {str(count): peak for count, peak in peaks.items()},
        "ratio": {name: round(many[name] / few[name], 3) for name in few},
        "machine": machine(),
        "commit": commit(),
    }


def as_text(found: dict[str, Any]) -> str:
    """Return the peaks as a small table."""
    lines = [f"{'rows':>8}{'rss MiB':>12}{'own MiB':>12}{'driver MiB':>12}"]
    for rows, peak in found["peak_mib"].items():
        lines.append(f"{rows:>8}{peak['rss']:>12.0f}{peak['own']:>12.0f}{peak['driver']:>12.0f}")
    ratio = found["ratio"]
    lines.append(f"{'ratio':>8}{ratio['rss']:>12.3f}{ratio['own']:>12.3f}{ratio['driver']:>12.3f}")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
