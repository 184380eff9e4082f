"""Recipes that run on a GPU in one process, for the tests beside this file."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.contracts import ImageBatch, Operator
from pipeline.execution.job import Job
from pipeline.execution.worker import run_inline
from pipeline.noise import Noise
from pipeline.plan import Plan
from pipeline.planning.parts import find_files, read_assets
from pipeline.planning.planner import make_plan
from pipeline.planning.recipe_file import load_recipe
from pipeline.publishing.log_writer import LogWriter
from pipeline.publishing.prepare import prepare
from pipeline.shards.images.codecs import decode
from pipeline.shards.output.store import open_store
from pipeline.watermark_key import key_id
from schemas.manifest import Manifest, UnitRecord
from tests.fixtures.data_sets import publish, rows_of, write_input, write_recipe

KEY = bytes(range(32))
EDIT: dict[str, Any] = {
    "diffusion_edit": {"steps": 4, "strength_range": [0.5, 1.0], "condition": "none", "force": True}
}
ADAIN: dict[str, Any] = {"adain_style": {"alpha_range": [0.5, 1.0]}}
BRANCHES: list[dict[str, Any]] = [
    {"name": "restyled", "copies": 1, "operators": [ADAIN]},
    {"name": "edited", "copies": 2, "operators": [EDIT]},
    {"name": "drawn", "count": 20, "operators": [{"gan_synth": {"force": True}}]},
    {"name": "painted", "count": 20, "operators": [{"diffusion_generate": {"steps": 4, "force": True}}]},
    {"name": "mosaic", "copies": 1, "operators": [{"fast_style": {}}]},
]


def gpu_plan(folder: Path, out: str, branches: list[dict[str, Any]], marked: bool = False, **sections: Any) -> Plan:
    """Return the plan of a recipe, `folder/OUT.yaml`, over `folder/data`; each of its branches holds a GPU."""
    if not (folder / "data").exists():
        write_input(folder / "data", shards=1, rows=24)
    resources = {branch["name"]: {"gpus": 1} for branch in branches}
    mark: dict[str, Any] = {"watermark": {"psnr_db": 42.0}} if marked else {}
    given = {"resources": resources, "output": {"uri": out}, **mark, **sections}
    return plan_of(write_recipe(folder, branches, **given).rename(folder / f"{out}.yaml"))


def plan_of(path: Path) -> Plan:
    """Return the plan of a recipe file, marked with `KEY` where it asks for marks."""
    recipe, base = load_recipe(str(path))
    return make_plan(recipe, base, None, None if recipe.watermark == "none" else key_id(KEY))


def made(plan: Plan) -> tuple[Manifest, list[UnitRecord]]:
    """Run what is missing of a plan here, and publish; every unit must have been made."""
    store = open_store(plan.output)
    prepared = prepare(plan, store)
    key = None if plan.recipe.watermark == "none" else KEY
    outcomes = []
    with LogWriter(store, prepared.run) as log:
        for outcome in run_inline(Job.of(plan), plan.branches, prepared.missing(), key):
            log.add(outcome)
            outcomes.append(outcome)
    failed = [outcome for outcome in outcomes if not isinstance(outcome, UnitRecord)]
    assert not failed and len(outcomes) == len(prepared.plan.units) - int(prepared.done.sum())
    return publish(plan, store, prepared), [outcome for outcome in outcomes if isinstance(outcome, UnitRecord)]


def images_in(out: Path) -> list[npt.NDArray[np.int16]]:
    """Return the images of a data set in order."""
    return [decode(row["image"]["bytes"], 10**8).astype(np.int16) for row in rows_of(out)]


def loaded(operator: Operator, device: str) -> Operator:
    """Return the operator on a device, with the embedded files that it names."""
    operator.load(device, read_assets(*find_files(operator, ".")))
    return operator


def applied(operator: Operator, batch: ImageBatch, device: str) -> npt.NDArray[np.int16]:
    """Return what the operator makes of a batch."""
    done = operator.apply(batch, operator.draw(batch), Noise(batch.seeds, device))
    assert not done.errors and not done.rejected
    return done.images.astype(np.int16)
