"""A plain script for AdaIN: one image a call, and the style encoded again for each.

    python -m jobs.bench.contestants.adain_loop TASK

One process with as many threads as the other contestants have processes; its model is loaded before the clock starts.
"""

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

from jobs.bench.contestants.bare_loop import convert
from jobs.bench.contestants.pillow_images import PlainOperator
from jobs.bench.contestants.task import Task


def main(text: str) -> None:
    """Do the task and print rows and seconds as JSON."""
    task = replace(Task.from_json(text), batch=1)
    Path(task.output).mkdir(parents=True)
    operator = PlainOperator(task, threads=task.workers, anew=True)
    started = time.perf_counter()
    rows = sum(convert(path, task, operator) for path in task.shards())
    print(json.dumps({"rows": rows, "seconds": time.perf_counter() - started}))


if __name__ == "__main__":
    main(sys.argv[1])
