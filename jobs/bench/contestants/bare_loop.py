"""The same work without a framework: two processes share the files; their models are loaded before the clock starts.

python -m jobs.bench.contestants.bare_loop TASK
"""

import json
import multiprocessing
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.bench.contestants.pillow_images import PlainOperator, decode, encode
from jobs.bench.contestants.task import Task


def main(text: str) -> None:
    """Do the task and print rows and seconds as JSON."""
    task = Task.from_json(text)
    Path(task.output).mkdir(parents=True)
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for worker in range(task.workers):
        here, there = context.Pipe()
        process = context.Process(target=_work, args=(task, worker, there), daemon=True)
        process.start()
        pipes.append(here)
        processes.append(process)
    for pipe in pipes:
        pipe.recv()  # its model is loaded
    started = time.perf_counter()
    for pipe in pipes:
        pipe.send("go")
    rows = sum(pipe.recv() for pipe in pipes)
    seconds = time.perf_counter() - started
    for process in processes:
        process.join()
    print(json.dumps({"rows": rows, "seconds": seconds}))


def _work(task: Task, worker: int, pipe: Connection) -> None:
    operator = PlainOperator(task)
    pipe.send("ready")
    pipe.recv()
    pipe.send(sum(convert(path, task, operator) for path in task.shards()[worker :: task.workers]))


def convert(path: str, task: Task, operator: PlainOperator) -> int:
    """Write the shard at `path` again, each image operated on; return its rows."""
    source = pq.ParquetFile(path)
    schema = pa.schema([("image", pa.binary()), source.schema_arrow.field("label"), source.schema_arrow.field("id")])
    rows = 0
    with pq.ParquetWriter(Path(task.output, Path(path).name), schema) as writer:
        for batch in source.iter_batches(task.batch, columns=["image", "label", "id"]):
            pixels = [decode(image["bytes"], task.size_px) for image in batch["image"].to_pylist()]
            images = pa.array([encode(made, task.encoding) for made in operator(pixels)], pa.binary())
            writer.write_table(pa.table([images, batch["label"], batch["id"]], schema=schema))
            rows += len(pixels)
    return rows


if __name__ == "__main__":
    main(sys.argv[1])
