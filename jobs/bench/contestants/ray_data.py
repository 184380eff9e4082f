"""What one would write instead of this product: read_parquet, decode, an actor with the model, encode, write_parquet.

    python -m jobs.bench.contestants.ray_data TASK

`ray.init` is outside the clock, everything else inside. Two logical CPUs more than the actors take let reading and
encoding run beside them.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset
import ray
import ray.data

from jobs.bench.contestants.pillow_images import PlainOperator, decode, encode
from jobs.bench.contestants.task import Task

Batch = dict[str, Any]


def main(text: str) -> None:
    """Do the task and print rows and seconds as JSON."""
    task = Task.from_json(text)
    ray.init(address="local", num_cpus=task.workers + 2, include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    started = time.perf_counter()
    rows = ray.data.read_parquet(task.shards())
    pixels = rows.map_batches(decode_batch, fn_kwargs={"size_px": task.size_px}, batch_size=task.batch)
    actors = ray.data.ActorPoolStrategy(size=task.workers)
    made = pixels.map_batches(Model, fn_constructor_args=(task,), batch_size=task.batch, compute=actors)
    made.map_batches(encode_batch, fn_kwargs={"encoding": task.encoding}, batch_size=task.batch).write_parquet(
        task.output
    )
    seconds = time.perf_counter() - started
    count = pyarrow.dataset.dataset(sorted(map(str, Path(task.output).glob("*.parquet")))).count_rows()
    ray.shutdown()
    print(json.dumps({"rows": count, "seconds": seconds}))


def decode_batch(batch: Batch, size_px: int) -> Batch:
    """Replace encoded images by pixels [N, S, S, 3]."""
    pixels = np.stack([decode(image["bytes"], size_px) for image in batch["image"]])
    return {"pixels": pixels, "label": batch["label"], "id": batch["id"]}


class Model:
    """The actor: the operator, loaded once."""

    def __init__(self, task: Task) -> None:
        self._operator = PlainOperator(task)

    def __call__(self, batch: Batch) -> Batch:
        return {**batch, "pixels": self._operator(batch["pixels"])}


def encode_batch(batch: Batch, encoding: str) -> Batch:
    """Replace pixels by encoded images."""
    images = np.array([encode(made, encoding) for made in batch["pixels"]], dtype=object)
    return {"image": images, "label": batch["label"], "id": batch["id"]}


if __name__ == "__main__":
    main(sys.argv[1])
