"""This product in a bench: a recipe, and all that `palimpsest run` does with it except starting Ray.

python -m jobs.bench.contestants.palimpsest_run TASK
"""

import argparse
import contextlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from jobs.bench.contestants.task import JPEG_QUALITY, Task
from jobs.commands.plan import read_plan
from pipeline.audit.report import write_report
from pipeline.run import run_plan
from pipeline.shards.output.commit_log import CommitLog
from pipeline.shards.output.store import open_store


def main(text: str) -> None:
    """Do the task; print rows, seconds and where they went as JSON."""
    from pipeline.cluster import engine  # noqa: F401 - imported before the clock starts, as in the Ray Data script

    task = Task.from_json(text)
    path = Path(f"{task.output}.recipe.json")
    path.write_text(json.dumps(recipe(task)))  # JSON is YAML
    options = argparse.Namespace(recipe=str(path), input=None, output=None, set=[], limit=None)
    with _ray(task.executor):
        started = time.perf_counter()
        plan = read_plan(options)
        planned = time.perf_counter()
        manifest = run_plan(plan, task.executor, "local")
        seconds = time.perf_counter() - started
    store = open_store(task.output)
    records = list(CommitLog(store).records())
    began = time.perf_counter()
    write_report(store, manifest)  # once more, to know its share
    spent = {
        "plan_s": planned - started,
        "report_s": time.perf_counter() - began,
        "units_s": sum(record.seconds for record in records),
        "operators_s": sum(record.busy_s for record in records),
    }
    made = manifest.counts.accepted // (2 if task.originals else 1)  # originals are accepted rows, too
    print(json.dumps({"rows": made, "seconds": seconds, "spent": spent}))


def recipe(task: Task) -> dict[str, Any]:
    """Return the recipe of a task: what a user would write, without actors or resources."""
    operator: dict[str, Any] = {"flip": {"probability": 1}}
    if task.models is not None:
        models = {"encoder": task.models.encoder, "decoder": task.models.decoder}
        plain = {"alpha_range": [1, 1], "min_side_px": 1}  # what the peers do: full style, at the image's own size
        operator = {"adain_style": {**models, "styles": task.models.style, **plain}}
    return {
        "version": 1,
        "seed": 0,
        "input": {"uri": task.input},
        "output": {
            "uri": task.output, "encoding": task.encoding, "quality": JPEG_QUALITY, "size": task.size_px,
            "channels": "rgb", "keep_originals": task.originals,
        },
        "branches": [{"name": task.operator, "operators": [operator]}],
        "watermark": "none",
        "numerics": {"threads": 1, "dtype": task.dtype},
    }  # fmt: skip


def _ray(executor: str) -> contextlib.AbstractContextManager[None]:
    if executor == "inline":
        return contextlib.nullcontext()
    import pipeline.cluster.engine  # noqa: F401 - the peers' imports are outside the clock as well
    from pipeline.cluster.connection import connect

    return connect("local")


if __name__ == "__main__":
    main(sys.argv[1])
