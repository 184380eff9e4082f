"""Whole runs with `--executor inline`: decode, model, encode, lineage, commit; beside loops that save files, too."""

import argparse
import io
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from jobs.bench import stable_diffusion_edit
from jobs.bench.contestants.palimpsest_run import recipe
from jobs.bench.contestants.pillow_images import decode, encode
from jobs.bench.contestants.plain_adain import AdaINStyliser
from jobs.bench.contestants.task import CASES, Case, Task
from jobs.bench.gpu import stable_diffusion
from jobs.bench.gpu.images import seeded_images
from jobs.bench.gpu.setting import Setting
from jobs.bench.gpu.timing import Contestant, Make
from jobs.bench.inputs import reference_models, synthetic_shards
from jobs.commands.plan import read_plan
from pipeline.contracts import Pixels
from pipeline.run import run_plan
from pipeline.shards.output.commit_log import CommitLog
from pipeline.shards.output.store import open_store


def adain(setting: Setting) -> Iterator[tuple[str, dict[str, Any]]]:
    """AdaIN from JPEG to JPEG."""
    sizes = setting.sizes
    models = reference_models(CASES["adain"])
    case = Case("adain", sizes.whole_style_images, sizes.style_px)
    shards = str(synthetic_shards(case, sizes.whole_style_images))
    task = Task("adain", shards, str(setting.folder / "adain"), sizes.style_px, models, dtype=setting.half)
    found = _run(setting, recipe(task), "adain_style")
    styliser = AdaINStyliser(models, anew=True, device=setting.device)

    def stylise(data: bytes) -> bytes:
        return encode(styliser(decode(data, sizes.style_px)[None])[0])

    loop = Contestant(_over_files(sizes.style_px, stylise), sizes.style_loop_images, 1, plain=True)
    yield "run_adain", _beside(found, setting.clock().compare({"one_at_a_time": loop}, "one_at_a_time"))


def diffusion(setting: Setting) -> Iterator[tuple[str, dict[str, Any]]]:
    """Both edits from JPEG to PNG."""
    sizes, model = setting.sizes, stable_diffusion.model_of(setting)
    size = replace(sizes.stable, images=sizes.whole_few_images)
    stable_diffusion_edit.save_shard(setting.folder / "stable-shards", size)
    for few, name in ((True, "run_4_steps"), (False, "run_25_steps")):
        edit_recipe = {
            "version": 1,
            "seed": 0,
            "input": {"uri": str(setting.folder / "stable-shards")},
            "output": {"uri": str(setting.folder / name)},
            "branches": [
                {"name": "edited", "operators": [{"diffusion_edit": stable_diffusion.params(setting, model, few)}]}
            ],
            "watermark": "none",
            "numerics": {"dtype": setting.half, "micro_batch": sizes.stable_batch},
        }
        found = _run(setting, edit_recipe, "diffusion_edit", None if few else sizes.whole_stable_images)
        edit = stable_diffusion.caller(setting, model, few, "float32")

        def redraw(data: bytes, edit: Callable[[Image.Image], Image.Image] = edit) -> bytes:
            out = io.BytesIO()
            edit(Image.open(io.BytesIO(data))).save(out, "PNG")
            return out.getvalue()

        images = sizes.few_loop_images if few else sizes.stable_loop_images
        loop = Contestant(_over_files(sizes.stable.side_px, redraw), images, min(2, images), plain=True)
        yield name, _beside(found, setting.clock().compare({"loop_float32": loop}, "loop_float32"))


def _run(setting: Setting, edit_recipe: dict[str, Any], operator: str, limit: int | None = None) -> dict[str, Any]:
    """Run a recipe once; images a second while units were made, and what the rest took."""
    gpus = 0 if setting.device == "cpu" else 1
    edit_recipe = {**edit_recipe, "resources": {operator: {"gpus": gpus, "cpus": setting.cpus}}}
    path = Path(f"{edit_recipe['output']['uri']}.recipe.json")
    path.write_text(json.dumps(edit_recipe))
    started = time.perf_counter()
    plan = read_plan(argparse.Namespace(recipe=str(path), input=None, output=None, set=[], limit=limit))
    manifest = run_plan(plan, "inline", "local")
    seconds = time.perf_counter() - started
    counts, records = manifest.counts, list(CommitLog(open_store(plan.output)).records())
    if not manifest.complete or not records:
        raise RuntimeError(f"{counts.units} of {manifest.units} units were made; failed: {manifest.failed}")
    units_s = sum(record.seconds for record in records)
    made = counts.accepted + counts.rejected  # random weights may make black images
    return {
        "images": made,
        "images_per_s": {"palimpsest": float(f"{made / units_s:.4g}")},
        "seconds": {"whole": round(seconds, 1), "units": round(units_s, 1)},
        "operators_s": round(sum(record.busy_s for record in records), 1),
        "exact": all(record.exact for record in records),
        "rejected": counts.rejected,
        "devices": manifest.devices,
        "cpus": setting.cpus,
    }


def _beside(run: dict[str, Any], loop: dict[str, Any]) -> dict[str, Any]:
    ours, theirs = run["images_per_s"]["palimpsest"], loop["images_per_s"]
    ratio = {name: round(ours / speed, 2) for name, speed in theirs.items()}
    return {**run, "images_per_s": {"palimpsest": ours, **theirs}, "ratio": ratio}


def _over_files(side_px: int, change: Callable[[bytes], bytes]) -> Make:
    files = [encode(image) for image in seeded_images(side_px, range(8))]

    def make(numbers: range, sources: Pixels | None) -> None:  # noqa: ARG001 - of files
        for number in numbers:
            change(files[number % len(files)])

    return make
