"""Published text-guided pipelines in a local folder: loaded without pickle or foreign code, run as true batches.

Every class that diffusers' `AutoPipelineFor...` knows is loaded; what a class takes is read from its signature.
"""

import inspect
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from pipeline.diffusion.latent_cache import LatentCache
from pipeline.diffusion.schedulers import check_steps, named_scheduler
from pipeline.diffusion.sliced_decode import slice_large_decodes
from pipeline.diffusion.strength import strengths_for
from pipeline.diffusion.text_embeddings import TextEmbeddings
from pipeline.errors import ModelError
from pipeline.messages import one_line
from pipeline.model_files.folders import CONFIG_FILE, INDEX_FILE, read_json
from pipeline.networks.compilation import compile_network, padded
from pipeline.networks.precision import cast_network

Task = Literal["control", "edit", "generate", "inpaint"]
Decode = Literal["whole", "sliced", "tiled"]
CONVOLUTIONAL = ("unet", "vae", "controlnet")
AUTO_CLASSES: dict[Task, str] = {
    "control": "AutoPipelineForImage2Image",
    "edit": "AutoPipelineForImage2Image",
    "generate": "AutoPipelineForText2Image",
    "inpaint": "AutoPipelineForInpainting",
}
NEEDED: dict[Task, tuple[str, ...]] = {
    "control": ("image", "control_image", "strength"),
    "edit": ("image", "strength"),
    "generate": ("num_inference_steps",),
    "inpaint": ("image", "mask_image", "strength"),
}
CHATTY = (
    "diffusers.models.modeling_utils",  # a line for every call that decodes with SDXL
    "diffusers.pipelines.stable_diffusion.safety_checker",  # what it flags is rejected and counted, not announced
)
LOADING_ERRORS = (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, RuntimeError)


def load_quietly(load: Callable[..., Any], folder: str | Path, **given: Any) -> Any:
    """Return `load(folder)`: in float32, from safetensors only, without code from the folder and without network.

    Raises ModelError, in one line, where that fails.
    """
    _quieten()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecation warnings of the libraries
            return load(
                str(folder),
                use_safetensors=True,
                local_files_only=True,
                low_cpu_mem_usage=False,
                torch_dtype=torch.float32,
                **given,
            )
    except LOADING_ERRORS as error:
        raise ModelError(f"model {folder}: not usable: {one_line(error, 300)}") from error


def _quieten() -> None:
    """Turn off progress bars, and log lines that a library writes at every call."""
    from diffusers.utils import logging
    from transformers.utils import logging as text_logging

    for library in (logging, text_logging):
        hide: Callable[[], None] = library.disable_progress_bar
        hide()
    for name in CHATTY:
        logging.get_logger(name).setLevel("ERROR")


def load_pipeline(folder: str | Path, task: Task, controlnet: str | Path | None = None) -> Any:
    """Load the pipeline of a diffusers folder for a task, on the CPU; with `controlnet`, its variant with a ControlNet.

    Raises ModelError, in one line, where the folder holds no pipeline, one that cannot do this, or no safetensors.
    """
    import diffusers

    if not Path(folder, INDEX_FILE).is_file():
        raise ModelError(f"model {folder}: no diffusers pipeline; there is no {INDEX_FILE} in it")
    # A part that was left out when the folder was saved, such as the third text encoder, is left out again.
    index = read_json(Path(folder, INDEX_FILE))
    more: dict[str, Any] = {name: None for name, value in index.items() if value == [None, None]}
    if controlnet is not None:
        more["controlnet"] = _load_controlnet(controlnet)
    pipeline = load_quietly(getattr(diffusers, AUTO_CLASSES[task]).from_pretrained, folder, **more)
    if getattr(pipeline, "watermark", None) is not None:
        pipeline.watermark = None  # this product marks its images itself; the library's mark would lie beneath it
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _load_controlnet(folder: str | Path) -> Any:
    """Load the ControlNet of a folder, of the diffusers class that its configuration names."""
    import diffusers

    name = str(read_json(Path(folder, CONFIG_FILE)).get("_class_name", ""))
    if "ControlNet" not in name or not hasattr(diffusers, name):
        raise ModelError(f"controlnet {folder}: no ControlNet; its {CONFIG_FILE} names {name or 'no class'}")
    return load_quietly(getattr(diffusers, name).from_pretrained, folder)


@dataclass(frozen=True)
class ComputeOptions:
    """How a pipeline computes: its dtype, how its autoencoder takes a batch, and whether it is compiled."""

    dtype: str = "float32"
    decode: Decode = "whole"
    compiled_rows: int | None = None  # every call is padded to so many images


class TextPipeline:
    """A pipeline on a device as a function of prompts, seeds and the inputs of its task.

    Raises ModelError where the class cannot do the task, or a size, steps or scheduler do not fit it.
    """

    def __init__(
        self,
        pipeline: Any,
        task: Task,
        folder: str | Path,
        device: str,
        steps: int,
        scheduler: str | None = None,
        size_px: int | None = None,
        compute: ComputeOptions = ComputeOptions(),
    ) -> None:
        self.pipeline, self._compute = pipeline, compute
        self._name, self._folder = type(pipeline).__name__, folder
        self._takes = inspect.signature(type(pipeline).__call__).parameters
        absent = [name for name in NEEDED[task] if name not in self._takes]
        if absent:
            raise ModelError(f"model {folder}: {self._name} cannot {task}: it takes no {', '.join(absent)}")
        pipeline.scheduler = named_scheduler(scheduler, pipeline.scheduler, folder)
        check_steps(pipeline.scheduler, steps, folder)
        self._prepare(device)
        self.steps = steps
        self.size_px = size_px or native_size_px(pipeline)
        check_size(pipeline, self.size_px, folder)
        self._texts = TextEmbeddings(pipeline, device)
        self._distilled = "original_inference_steps" in self._takes  # a consistency model runs every step it is given

    def _prepare(self, device: str) -> None:
        """Cast all networks and move them to the device; set how the autoencoder decodes; compile if asked for."""
        pipeline, compute = self.pipeline, self._compute
        for name, part in pipeline.components.items():
            if isinstance(part, torch.nn.Module):
                cast_network(part, compute.dtype, channels_last=name in CONVOLUTIONAL).to(device).requires_grad_(False)
        autoencoder = getattr(pipeline, "vae", None)
        if compute.decode != "whole":
            turn_on = getattr(autoencoder, {"sliced": "enable_slicing", "tiled": "enable_tiling"}[compute.decode], None)
            if turn_on is None:
                raise ModelError(
                    f"model {self._folder}: the autoencoder of {self._name} cannot be {compute.decode}; "
                    "leave decode out"
                )
            turn_on()
        else:
            slice_large_decodes(autoencoder, device)
        if hasattr(autoencoder, "encode"):
            self.sources = LatentCache(autoencoder)
        if compute.compiled_rows is not None:
            compile_network(pipeline)

    def decoder(self) -> Callable[[Tensor], Tensor]:
        """Return a differentiable function from clean latents [N, c, s, s] to images [N, 3, S, S] in [-1, 1].

        Raises ModelError where latents are packed, or where half precision would lose the gradient.
        """
        autoencoder = getattr(self.pipeline, "vae", None)
        config = getattr(autoencoder, "config", {})
        if autoencoder is None or hasattr(self.pipeline, "_unpack_latents") or "scaling_factor" not in config:
            raise ModelError(
                f"model {self._folder}: {self._name} has no latents that CLIP could be shown; leave clip_model out"
            )
        if self._compute.dtype == "float16" and config.get("force_upcast"):
            raise ModelError(
                f"model {self._folder}: its autoencoder overflows in float16, so CLIP would be shown nothing; "
                "use numerics.dtype bfloat16, or leave clip_model out"
            )

        def decoded(latents: Tensor) -> Tensor:
            whole = latents / config["scaling_factor"] + (config.get("shift_factor") or 0.0)
            images: Tensor = autoencoder.decode(whole.to(autoencoder.dtype)).sample
            return images.float()

        return decoded

    def check_negative(self) -> None:
        """Raise ModelError where the class takes no negative prompt."""
        if "negative_prompt" not in self._takes or self._embeds_guidance:
            raise ModelError(f"model {self._folder}: {self._name} takes no negative prompt; leave it out")

    @torch.inference_mode()
    def __call__(
        self,
        prompts: Sequence[str],
        negatives: Sequence[str],
        seeds: Sequence[int],
        run: int,
        guidance: float,
        **images: Any,
    ) -> tuple[Tensor, list[bool]]:
        """Return images [N, 3, S, S] in [-1, 1], and whether the model's safety checker flagged each, in one call.

        One generator a sample, made on the CPU from its seed: a sample's noise is its own, in any batch, on any device.
        `images` are tensors [N, C, S, S] in [0, 1] by the pipeline's own argument names; `run` of the steps are run.
        """
        partly, count = "strength" in self._takes, len(seeds)
        rows = self._compute.compiled_rows or count
        if rows > count:
            prompts, negatives, seeds = ([*each, *[each[-1]] * (rows - count)] for each in (prompts, negatives, seeds))
            images = {name: padded(each, rows) if isinstance(each, Tensor) else each for name, each in images.items()}
        wanted: dict[str, Any] = {
            "num_inference_steps": run if self._distilled else self.steps,
            "strength": self._strength(run) if partly else None,
            "generator": [torch.Generator().manual_seed(seed) for seed in seeds],
            "height": self.size_px,
            "width": self.size_px,
            "output_type": "pt",
            "return_dict": False,
            **images,
            **self._guided(guidance),
            **self._texts.of(prompts, negatives, guidance > 1 and not self._embeds_guidance),
        }
        made = self.pipeline(
            **{name: value for name, value in wanted.items() if name in self._takes and value is not None}
        )
        images_made: Tensor = made[0][:count]
        flagged = made[1] if len(made) > 1 and made[1] is not None else [False] * count
        return images_made.float().mul(2).sub(1), [bool(each) for each in flagged[:count]]

    def _strength(self, run: int) -> float:
        """Return a strength at which this pipeline class, by its own rounding, runs `run` steps."""
        shares = strengths_for(self.steps, run)
        count = getattr(self.pipeline, "get_timesteps", None)
        if self._distilled or count is None:
            return shares[0]
        if self.pipeline.scheduler.timesteps is None:  # PNDM, the default of SD 1.5, has none before `set_timesteps`
            self.pipeline.scheduler.set_timesteps(self.steps)
        device = self.pipeline.device
        return next((share for share in shares if count(self.steps, share, device)[1] == run), shares[0])

    @property
    def _embeds_guidance(self) -> bool:
        """Whether guidance is an input of the network and not the difference of two predictions."""
        network = getattr(self.pipeline, "transformer", None)
        return self._distilled or bool(network is not None and network.config.get("guidance_embeds"))

    def _guided(self, guidance: float) -> dict[str, float]:
        true_scale = "true_cfg_scale" in self._takes and not self._embeds_guidance
        return {"true_cfg_scale": guidance} if true_scale else {"guidance_scale": guidance}


def native_size_px(pipeline: Any) -> int:
    """Return the image side in px that a pipeline was trained at."""
    network = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
    size = network.config.get("sample_size") if network is not None else None
    size = size or getattr(pipeline, "default_sample_size", None) or 64
    return int(size if isinstance(size, int) else size[0]) * _latent_px(pipeline)


def check_size(pipeline: Any, size_px: int, folder: str | Path) -> None:
    """Raise ModelError where a pipeline's latents, or their patches, do not divide this side."""
    network = getattr(pipeline, "transformer", None)
    patch = network.config.get("patch_size") if network is not None else 1
    packed = getattr(getattr(pipeline, "image_processor", None), "config", {}).get("vae_scale_factor", 1)
    step = max(_latent_px(pipeline) * (patch if isinstance(patch, int) else 1), int(packed))
    if size_px % step:
        raise ModelError(
            f"model {folder}: size_px {size_px} is no multiple of {step}; give {size_px // step * step + step}"
        )


def _latent_px(pipeline: Any) -> int:
    return int(getattr(pipeline, "vae_scale_factor", 1))
