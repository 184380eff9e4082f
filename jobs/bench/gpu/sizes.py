"""Sizes of the work of the GPU bench: full for a GPU, or tiny, to test on a CPU that all of it runs."""

from dataclasses import dataclass

from jobs.bench import stable_diffusion_edit


@dataclass(frozen=True)
class Sizes:
    """Numbers of images are for one round; `batch` are images a call."""

    rounds: int
    stable: stable_diffusion_edit.Size
    steps: int  # of the edit with guidance
    stable_batch: int
    stable_images: int
    stable_loop_images: int
    few_images: int
    few_loop_images: int
    style_px: int
    style_batch: int
    style_images: int
    style_loop_images: int
    embedded_steps: int
    embedded_batch: int
    embedded_images: int
    embedded_loop_images: int
    mark_px: tuple[int, ...]
    mark_images: int
    mark_loop_images: int
    whole_style_images: int
    whole_few_images: int
    whole_stable_images: int  # of those, the ones that 25 steps are for


FULL = Sizes(
    rounds=3,
    stable=stable_diffusion_edit.FULL,
    steps=stable_diffusion_edit.STEPS,
    stable_batch=32,
    stable_images=64,
    stable_loop_images=6,
    few_images=128,
    few_loop_images=12,
    style_px=256,
    style_batch=32,
    style_images=1024,
    style_loop_images=64,
    embedded_steps=50,
    embedded_batch=64,
    embedded_images=512,
    embedded_loop_images=6,
    mark_px=(256, 512),
    mark_images=256,
    mark_loop_images=24,
    whole_style_images=4096,
    whole_few_images=384,
    whole_stable_images=128,
)
TINY = Sizes(
    rounds=1,
    stable=stable_diffusion_edit.TINY,
    steps=2,
    stable_batch=2,
    stable_images=2,
    stable_loop_images=1,
    few_images=2,
    few_loop_images=1,
    style_px=32,
    style_batch=2,
    style_images=2,
    style_loop_images=1,
    embedded_steps=2,
    embedded_batch=2,
    embedded_images=2,
    embedded_loop_images=1,
    mark_px=(48,),
    mark_images=2,
    mark_loop_images=1,
    whole_style_images=4,
    whole_few_images=2,
    whole_stable_images=2,
)
SIZES = {"full": FULL, "tiny": TINY}
