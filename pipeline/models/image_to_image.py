"""Published image-to-image pipelines in a local folder: loaded without pickle, run as true batches."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.errors import ModelError

INDEX_FILE = "model_index.json"


def load_pipeline(folder: str | Path, device: str) -> Any:
    """The image-to-image pipeline of a diffusers folder, float32, on a device; weights from safetensors only.

    Raises ModelError, in one line, where the folder holds no pipeline, or one without safetensors weights.
    """
    from diffusers import AutoPipelineForImage2Image
    from diffusers.utils import logging

    if not Path(folder, INDEX_FILE).is_file():
        raise ModelError(f"model {folder}: no diffusers pipeline; there is no {INDEX_FILE} in it")
    logging.disable_progress_bar()
    found: Any = AutoPipelineForImage2Image
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the libraries announce their own future here
            pipeline = found.from_pretrained(
                str(folder),
                use_safetensors=True,
                local_files_only=True,
                low_cpu_mem_usage=False,
                torch_dtype=torch.float32,
            )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, RuntimeError) as error:
        raise ModelError(f"model {folder}: not usable: {' '.join(str(error).split())[:300]}") from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def native_size_px(pipeline: Any) -> int:
    """The side a pipeline was trained at."""
    network = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
    size = network.config.sample_size if network is not None else 64
    return int(size if isinstance(size, int) else size[0]) * int(pipeline.vae_scale_factor)


def check_size(pipeline: Any, size_px: int, folder: str | Path) -> None:
    """Raise ModelError where a pipeline's latents do not divide this side."""
    step = int(pipeline.vae_scale_factor)
    if size_px % step:
        raise ModelError(
            f"model {folder}: size_px {size_px} is no multiple of {step}; give {size_px // step * step + step}"
        )


def edit_with(
    pipeline: Any,
    images: Tensor,
    prompts: Sequence[str],
    seeds: Sequence[int],
    steps: int,
    run: int,
    guidance: float,
    negative_prompt: str = "",
) -> Tensor:
    """Edited images [N, 3, S, S] in [-1, 1] from images [N, 3, S, S] in [-1, 1], in one call (SDEdit).

    One generator a sample, made on the CPU from its seed: a sample's noise is its own, in any batch, on any device.
    The last `run` of `steps` are run.
    """
    made = pipeline(
        prompt=list(prompts),
        negative_prompt=[negative_prompt] * len(prompts),
        image=images.add(1).div(2).clamp(0, 1),
        strength=min(1.0, (run + 0.5) / steps),  # the half keeps int(steps * strength) from falling one short
        num_inference_steps=steps,
        guidance_scale=guidance,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        output_type="pt",
        return_dict=False,
    )
    edited: Tensor = made[0]
    return edited.float().mul(2).sub(1)
