"""`bench diffusion`: the embedded model by this product and by the loop a user writes, and what few steps cost.

First the curve: the product makes as many images at each number of steps, a small CNN learns from them alone and is
tested on real ones. Then the contest, in turn: the loop (one image a call, float32, 50 steps), the product at as many
steps, and the product at the fewest steps whose accuracy is at most a point below that of 50. The product computes in
bfloat16 where the processor has instructions for it; at as many steps in float32, too.
"""

import datetime
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from jobs.bench import stable_diffusion_edit
from jobs.bench.comparison import limited_cores, median_speeds, speed_of
from jobs.bench.contestants.diffusion_task import CLASSIFIER_STEPS, GenerationTask
from jobs.bench.machine import commit, machine, quick_dtype, versions
from pipeline.model_files.references import ASSETS

LOOP_STEPS = 50
LOOP_IMAGES = 32
CURVE = (50, 16, 12, 8, 6, 4)
IMAGES = 3_000
SEEDS = 2  # classifiers a point of the curve
COST_ALLOWED = 0.01  # of accuracy
REAL = str(ASSETS / "fashion-mnist" / "*.parquet")
METHOD = "adams"
STUDENT, STUDENT_STEPS = "builtin:fashion-diffusion-4step", 4


def measure(
    input_uri: str | None,
    rounds: int,
    images: int = IMAGES,
    curve: Sequence[int] = CURVE,
    executor: str = "ray",
    loop_images: int = LOOP_IMAGES,
    classifier_steps: int = CLASSIFIER_STEPS,
    stable_size: "stable_diffusion_edit.Size | None" = None,
) -> dict[str, Any]:
    """Return the figures of the bench.

    Args:
        input_uri: real labelled images of 28 px to test on; the embedded shards if None.
        images: of each run of the product.
        curve: numbers of steps, the loop's own among them.
    """
    dtype = quick_dtype()
    with limited_cores(2):
        ways = [GenerationTask(images, steps, method="euler" if steps == LOOP_STEPS else METHOD) for steps in curve]
        ways.append(GenerationTask(images, STUDENT_STEPS, model=STUDENT))
        ways = [replace(way, executor=executor, dtype=dtype) for way in ways]
        points = [point(way, input_uri or REAL, classifier_steps) for way in ways]
        whole = max(points, key=lambda found: found["steps"])
        good = [found for found in points if found["accuracy"] >= whole["accuracy"] - COST_ALLOWED]
        few = min(good, key=lambda found: (found["steps"], -found["accuracy"]))
        tasks = _contestants(images, loop_images, few, executor, dtype)
        found = median_speeds(tasks, rounds)
        gpu = torch.cuda.is_available()
        with tempfile.TemporaryDirectory(prefix="palimpsest-bench-") as folder:
            stable = stable_diffusion_edit.measure(Path(folder), gpu, rounds, executor, stable_size)
    return {
        "bench": "diffusion",
        "images_per_s": {"palimpsest": found["palimpsest"], "bare_loop": found["bare_loop"]},
        "ratio": {"bare_loop": round(found["palimpsest"] / found["bare_loop"], 2)},
        "equal_steps": {
            "steps": LOOP_STEPS,
            "images_per_s": found["equal_steps"],
            "ratio": round(found["equal_steps"] / found["bare_loop"], 2),
            "images_per_s_float32": found.get("float32", found["equal_steps"]),
        },
        "chosen": few,
        "curve": points,
        "stable_diffusion": stable,
        "machine": machine(),
        "commit": commit(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "rounds": rounds,
        "settings": {
            "images": images,
            "loop_images": loop_images,
            "tested_on": input_uri or "the embedded shards",
            "dtype": {"palimpsest": dtype, "bare_loop": "float32"},
        },
        "versions": versions(),
    }


def _contestants(
    images: int, loop_images: int, few: dict[str, Any], executor: str, dtype: str
) -> dict[str, tuple[str, GenerationTask]]:
    """The loop; the product at as many steps, in its type and in float32; the product at the fewest good steps."""
    equal = GenerationTask(images // 3, LOOP_STEPS, executor=executor)
    chosen = {name: few[name] for name in ("steps", "method", "model")}
    quick = GenerationTask(images, **chosen, executor=executor, dtype=dtype)
    tasks = {
        "bare_loop": ("jobs.bench.contestants.diffusion_loop", GenerationTask(loop_images, LOOP_STEPS)),
        "equal_steps": ("jobs.bench.contestants.palimpsest_diffusion", replace(equal, dtype=dtype)),
        "palimpsest": ("jobs.bench.contestants.palimpsest_diffusion", quick),
    }
    return (
        tasks if dtype == equal.dtype else {**tasks, "float32": ("jobs.bench.contestants.palimpsest_diffusion", equal)}
    )


def point(way: GenerationTask, real: str, classifier_steps: int) -> dict[str, Any]:
    """One point of the curve: speed of a whole run, and accuracy of classifiers that saw its images alone."""
    from jobs.bench.contestants.palimpsest_diffusion import accuracy_on

    with tempfile.TemporaryDirectory(prefix="palimpsest-bench-") as folder:
        task = replace(way, output=str(Path(folder, "out")))
        speed = speed_of("jobs.bench.contestants.palimpsest_diffusion", task)
        each = [accuracy_on(task.output, real, seed, classifier_steps) for seed in range(SEEDS)]
    found = {
        "steps": way.steps,
        "method": way.method,
        "model": way.model,
        "images_per_s": round(speed, 2),
        "accuracy": round(mean(each), 4),
    }
    print(f"curve: {found}", file=sys.stderr)
    return found


def as_text(found: dict[str, Any]) -> str:
    """Return the figures as two small tables."""
    lines = [f"{found['rounds']} rounds, {found['machine']}, commit {found['commit'][:12]}", ""]
    lines.append(f"{'steps':>6}{'method':>8}{'images/s':>10}{'accuracy':>10}  model")
    lines += [
        f"{p['steps']:>6}{p['method']:>8}{p['images_per_s']:>10.1f}{p['accuracy']:>10.4f}  {p['model']}"
        for p in found["curve"]
    ]
    loop, equal, chosen = found["images_per_s"]["bare_loop"], found["equal_steps"], found["chosen"]
    stable, dtype = found["stable_diffusion"], found["settings"]["dtype"]["palimpsest"]
    lines += [
        "",
        f"loop, one image a call, float32, {LOOP_STEPS} steps:  {loop:.2f} images/s",
        f"palimpsest, {dtype}, {equal['steps']} steps:  {equal['images_per_s']:.1f} images/s, "
        f"{equal['ratio']:.1f} x the loop (float32: {equal['images_per_s_float32']:.1f} images/s)",
        f"palimpsest, {dtype}, {chosen['steps']} steps of {chosen['model']}:  "
        f"{found['images_per_s']['palimpsest']:.1f} images/s, {found['ratio']['bare_loop']:.1f} x the loop",
        "",
        f"{stable['what']}: loop {stable['images_per_s']['bare_loop']:.2f} images/s, "
        f"palimpsest {stable['images_per_s']['palimpsest']:.2f}, {stable['ratio']['bare_loop']:.1f} x",
        *([stable["note"]] if stable["note"] else []),
    ]
    return "\n".join(lines)
