"""Estimate of the time and bytes of a plan, from declared speeds and the size of the first image."""

import io
from dataclasses import dataclass

from PIL import Image

from pipeline.errors import UnitError
from pipeline.plan import BranchPlan, Plan, StepPlan
from pipeline.shards.reader import read_windows

CODEC_S_PER_MEGAPIXEL = {"png": 0.35, "jpeg": 0.045, "webp": 0.35}
BYTES_PER_PIXEL = {"png": 1.7, "jpeg": 0.35, "webp": 0.25}
DEFAULT_MEGAPIXELS = 0.25


@dataclass(frozen=True)
class BranchEstimate:
    """The estimate of one branch. `seconds` is the time one actor alone would take."""

    branch: str
    units: int
    images: int
    actors: int | None
    gpus: float
    seconds: float
    bytes: int


def estimate(plan: Plan) -> list[BranchEstimate]:
    """Return an estimate for each branch, good to a factor of about three; nothing is measured."""
    megapixels, source_bytes = _first_image(plan)
    if isinstance(plan.recipe.output.size, int):
        megapixels = plan.recipe.output.size**2 / 1e6
    return [_branch(plan, branch, megapixels, source_bytes) for branch in plan.branches]


def _branch(plan: Plan, branch: BranchPlan, megapixels: float, source_bytes: int) -> BranchEstimate:
    images = plan.images(branch)
    per_image = 0.0005
    size = source_bytes
    if branch.steps:
        on_gpu = branch.gpus > 0
        work = sum(_seconds_per_megapixel(step, on_gpu) for step in branch.steps)
        per_image += megapixels * (work + CODEC_S_PER_MEGAPIXEL[plan.recipe.output.encoding])
        per_image += sum(planned.part_class.s_per_image[on_gpu] for planned in branch.gates)
        size = int(megapixels * 1e6 * BYTES_PER_PIXEL[plan.recipe.output.encoding])
    units = plan.units_in(branch.name).units
    seconds = round(images * per_image, 1)
    return BranchEstimate(branch.name, units, images, branch.actors, branch.gpus, seconds, images * (size + 300))


def _seconds_per_megapixel(step: StepPlan, on_gpu: bool) -> float:
    """Return the speed an operator states; where it works in steps, in proportion to their number."""
    operator = step.part_class
    stated = operator.gpu_s_per_megapixel if on_gpu else operator.cpu_s_per_megapixel
    usual = operator.Params.model_fields.get("steps")
    return stated if usual is None else stated * float(step.params["steps"]) / float(usual.default)


def _first_image(plan: Plan) -> tuple[float, int]:
    """Return the megapixels and bytes of the first source image that can be opened."""
    for shard in plan.shards:
        if not shard.rows or plan.layout is None:
            continue
        try:
            _, rows = next(read_windows(shard, plan.layout, 0, min(8, shard.rows), 8))
        except UnitError:  # the run reports a broken shard, as it does a broken row
            continue
        for row in rows:
            try:
                with Image.open(io.BytesIO(row.data or b"")) as image:
                    return image.width * image.height / 1e6, len(row.data or b"")
            except Exception:  # noqa: S112
                continue
        break
    return DEFAULT_MEGAPIXELS, 50_000
