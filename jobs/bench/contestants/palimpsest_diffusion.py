"""This product in `bench diffusion`: a whole run of `diffusion_generate`, except starting Ray; and the accuracy of a
classifier trained on its images.

python -m jobs.bench.contestants.palimpsest_diffusion TASK
"""

import argparse
import contextlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from jobs.bench.contestants.diffusion_task import CLASSIFIER_STEPS, GenerationTask

CLASSES = 10


def main(text: str) -> None:
    """Run the recipe; print rows and seconds as JSON."""
    from jobs.commands.plan import read_plan
    from pipeline.cluster import engine  # noqa: F401 - imported before the clock starts
    from pipeline.cluster.connection import connect
    from pipeline.run import run_plan

    task = GenerationTask(**json.loads(text))
    path = Path(f"{task.output}.recipe.json")
    path.write_text(json.dumps(recipe(task)))
    options = argparse.Namespace(recipe=str(path), input=None, output=None, set=[], limit=None)
    with contextlib.nullcontext() if task.executor == "inline" else connect("local"):
        started = time.perf_counter()
        manifest = run_plan(read_plan(options), task.executor, "local")
        seconds = time.perf_counter() - started
    print(json.dumps({"rows": manifest.counts.accepted, "seconds": seconds}))


def recipe(task: GenerationTask) -> dict[str, Any]:
    """Return the recipe that a user would write."""
    operator = {"diffusion_generate": {"model": task.model, "steps": task.steps, "method": task.method}}
    return {
        "version": 1,
        "seed": task.seed,
        "input": {"uri": "builtin:fashion-mnist"},
        "output": {"uri": task.output},
        "branches": [{"name": "painted", "per_class": -(-task.images // CLASSES), "operators": [operator]}],
        "watermark": "none",
        "numerics": {"threads": 1, "dtype": task.dtype},
    }


def accuracy_on(dataset: str, real: str, seed: int, steps: int = CLASSIFIER_STEPS) -> float:
    """Accuracy on real images of a small CNN that saw a data set's images alone."""
    from jobs.measure.train_on_synthetic import accuracies
    from jobs.train.data.images import ImageSet, load_images

    def grey(held: ImageSet) -> ImageSet:
        return ImageSet(held.pixels[:, :1].contiguous(), held.labels)  # images of equal channels

    made, tested = grey(load_images(f"{dataset}/data/*.parquet", 28)), grey(load_images(real, 28))
    return accuracies(made, {"real": tested}, CLASSES, seed, steps)["real"]


if __name__ == "__main__":
    main(sys.argv[1])
