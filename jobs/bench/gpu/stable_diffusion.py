"""Editing with the layout of Stable Diffusion 1.5, random weights: 25 steps with guidance, and a few without."""

import gc
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from jobs.bench import stable_diffusion_edit
from jobs.bench.gpu.images import seeded_images
from jobs.bench.gpu.setting import Setting, operator_call
from jobs.bench.gpu.timing import Contestant, Make
from jobs.bench.stable_diffusion_edit import GUIDANCE, PROMPT, STRENGTH
from pipeline.contracts import Assets, Pixels
from pipeline.devices import set_deterministic
from pipeline.operators.diffusion.diffusion_edit import DiffusionEdit, DiffusionEditParams

FEW_STEPS = 4
MODEL = "model"
GOALS = {"25_steps": {"images_per_s": 8, "ratio_loop_float32": 3}, "4_steps": {"images_per_s": 40}}


def model_of(setting: Setting) -> Path:
    """Return the folder of the pipeline, written now or by an earlier section."""
    if not (setting.folder / MODEL).exists():
        stable_diffusion_edit.save_model(setting.folder, setting.sizes.stable, setting.device, setting.half)
    return setting.folder / MODEL


def edits(setting: Setting) -> Iterator[tuple[str, dict[str, Any]]]:
    """Both edits by the operator, arrays in and out, beside the pipeline called image by image."""
    sizes, device = setting.sizes, setting.device
    model = model_of(setting)
    for few, name in ((False, "25_steps"), (True, "4_steps")):
        count, plain = sizes.few_images if few else sizes.stable_images, sizes.few_loop_images
        plain = plain if few else sizes.stable_loop_images
        ours, side = operator_call(product(setting, model, few), device, sizes.stable_batch), sizes.stable.side_px
        contestants = {"palimpsest": Contestant(ours, count, sizes.stable_batch, side)}
        for dtype in dict.fromkeys(("float32", setting.half)):
            contestants[f"loop_{dtype}"] = Contestant(
                loop(setting, model, few, dtype), plain, min(2, plain), side, plain=True
            )
        found = setting.clock().compare(contestants, "palimpsest")
        yield name, {"what": what(setting, few), "dtype": setting.half, "goal": GOALS[name], **found}
        del ours, contestants
        gc.collect()  # the next ones need the memory


def compiled(setting: Setting) -> Iterator[tuple[str, dict[str, Any]]]:
    """The product once more with its network compiled, and what compiling took."""
    sizes = setting.sizes
    # compiled code keeps the arithmetic and the number of threads that it was traced with
    set_deterministic(setting.device, threads=1)
    side, first, model = sizes.stable.side_px, range(sizes.stable_batch), model_of(setting)
    sources = seeded_images(side, first)
    started = time.perf_counter()
    make = operator_call(product(setting, model, False, True), setting.device, sizes.stable_batch)
    make(first, sources)
    seconds = round(time.perf_counter() - started, 1)
    contestant = Contestant(make, sizes.stable_images, sizes.stable_batch, side)
    found = setting.clock().compare({"palimpsest": contestant}, "palimpsest")
    yield "25_steps_compiled", {"what": what(setting, False), "load_and_compile_s": seconds, **found}


def what(setting: Setting, few: bool) -> str:
    size = setting.sizes.stable
    real = "SD 1.5 layout" if size is stable_diffusion_edit.FULL else "tiny networks, not the real figures"
    how = f"{FEW_STEPS} steps of LCM, no guidance" if few else f"{setting.sizes.steps} steps, guidance {GUIDANCE}"
    return f"{real}, random weights, {size.side_px} px, {how}, strength {STRENGTH}"


def product(setting: Setting, model: Path, few: bool, compile_: bool = False) -> DiffusionEdit:
    """Return the operator on the device."""
    operator = DiffusionEdit(DiffusionEditParams(**params(setting, model, few), compile=compile_))
    assets = Assets({"model": model}, dtype=setting.half, micro_batch=setting.sizes.stable_batch)  # type: ignore[arg-type]
    operator.load(setting.device, assets)
    return operator


def params(setting: Setting, model: Path, few: bool) -> dict[str, Any]:
    """Return what a recipe says."""
    shared: dict[str, Any] = {"model": str(model), "strength_range": (STRENGTH, STRENGTH), "prompt": PROMPT}
    return shared | (
        {"steps": FEW_STEPS, "scheduler": "lcm"} if few else {"steps": setting.sizes.steps, "guidance": GUIDANCE}
    )


def loop(setting: Setting, model: Path, few: bool, dtype: str) -> Make:
    """Return the script that a user writes: one image a call."""
    edit = caller(setting, model, few, dtype)

    def make(numbers: range, sources: Pixels | None) -> None:  # noqa: ARG001 - the images are all it takes
        assert sources is not None
        for image in sources:
            edit(Image.fromarray(image))

    return make


def caller(setting: Setting, model: Path, few: bool, dtype: str) -> Callable[[Image.Image], Image.Image]:
    """Return the pipeline as a function of one image."""
    import torch
    from diffusers import AutoPipelineForImage2Image, LCMScheduler

    library: Any = AutoPipelineForImage2Image
    pipeline = library.from_pretrained(str(model), torch_dtype=getattr(torch, dtype)).to(setting.device)
    pipeline.set_progress_bar_config(disable=True)
    if few:
        pipeline.scheduler = LCMScheduler.from_config(pipeline.scheduler.config)
    call = {"num_inference_steps": FEW_STEPS if few else setting.sizes.steps, "guidance_scale": 1 if few else GUIDANCE}

    def edit(image: Image.Image) -> Image.Image:
        made: Image.Image = pipeline(prompt=PROMPT, image=image, strength=STRENGTH, **call).images[0]
        return made

    return edit
