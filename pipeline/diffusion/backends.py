"""The three diffusion backends: an own model in one file, a class-conditional model, and a published pipeline.

Each takes a `Request` for N images and returns an `Output` at its own size and channels. Some values are the same for a
whole call (the number of steps; a pipeline's guidance); `generate_in_groups` makes one call for each of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from pipeline.diffusion.class_conditional import ClassConditionalModel, EditSource
from pipeline.diffusion.lora import merge_lora
from pipeline.diffusion.text_guidance import TextGuidance
from pipeline.diffusion.text_pipelines import ComputeOptions, Decode, Task, TextPipeline, load_pipeline
from pipeline.diffusion.textual_inversion import add_tokens, read_tokens
from pipeline.errors import ModelError
from pipeline.model_files.known_classes import is_class_model
from pipeline.networks.clip import TextImageModel
from pipeline.networks.compilation import FixedShapes, check_compiler
from pipeline.networks.generators import samplers
from pipeline.networks.generators.flow_matching import Velocity, distilled_steps, load_flow
from pipeline.networks.pixel_tensors import with_channels, with_size
from pipeline.networks.precision import cast_network


@dataclass(frozen=True)
class Settings:
    """What is fixed when a backend is loaded: task, sampler, size, precision and scales."""

    task: Task
    steps: int
    method: str = "euler"
    scheduler: str | None = None
    size_px: int | None = None
    negative: bool = False  # whether negative prompts will be given
    lora_scale: float = 1.0
    control_scale: float = 1.0
    dtype: str = "float32"  # what networks compute in
    compiled_rows: int | None = None  # images a call that networks are compiled for; None: not compiled
    decode: Decode = "whole"
    clip_guidance_scale: float = 0.0


@dataclass(frozen=True)
class Request:
    """The inputs of one call that makes N images.

    `indexes` are classes of the model (-1: none), `runs` the number of steps to run, `noise` is of shape `noise_shape`.
    `sources` [N, C, H, W] in [-1, 1] are edited, and only where `masks` [N, 1, H, W] is 1; `edges` [N, 1, S, S] are in
    [0, 1].
    """

    seeds: Sequence[int]
    indexes: Sequence[int]
    runs: Sequence[int]
    guidance: Sequence[float]
    prompts: Sequence[str]
    negatives: Sequence[str]
    noise: Tensor | None = None
    sources: Tensor | None = None
    masks: Tensor | None = None
    edges: Tensor | None = None
    texts: Sequence[str] | None = None  # texts of CLIP guidance; an image with an empty one is not guided

    def of(self, rows: Sequence[int]) -> "Request":
        """Return the request for the images at `rows` only."""
        picked: dict[str, Any] = {}
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                picked[name] = value[torch.tensor(rows, device=value.device)]
            else:
                picked[name] = None if value is None else [value[row] for row in rows]
        return Request(**picked)


@dataclass(frozen=True)
class Output:
    """Images [N, C, S, S], about [-1, 1], and the rows of those that a safety checker flagged."""

    images: Tensor
    unsafe: Sequence[int] = ()


class DiffusionBackend(Protocol):
    """A loaded model. `classes` are its class names (empty: unnamed); `without_class`: whether it accepts class -1."""

    takes_text: bool
    one_guidance: bool  # a call takes one guidance
    without_class: bool

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def class_count(self) -> int: ...

    @property
    def noise_shape(self) -> tuple[int, int, int] | None:
        """Shape [C, S, S] of the noise that a request must hold; None where the backend draws it from the seeds."""

    @property
    def size_px(self) -> int: ...

    def generate(self, request: Request) -> Output:
        """Make N images in one call. Number of steps, and guidance if `one_guidance`, are those of the first."""


class FlowMatchingBackend:
    """A flow-matching model made by `train diffusion`, or distilled from one by `train distill_diffusion`.

    Raises ModelError for any other file, and for a number of steps that a distilled model was not made for.
    """

    takes_text, one_guidance, without_class = False, False, True

    def __init__(self, path: str | Path, device: str, settings: Settings, text_guidance: TextGuidance | None) -> None:
        net, self.classes = load_flow(path)
        made_for = distilled_steps(path)
        if made_for is not None and (settings.steps, settings.method) != (made_for, "euler"):
            wanted = f"`steps: {made_for}, method: euler`"
            raise ModelError(f"model {path}: was distilled for {made_for} steps; write {wanted}")
        self.net = cast_network(net, settings.dtype).to(device)
        rows = settings.compiled_rows
        self._velocity: Velocity = self.net if rows is None else FixedShapes(self.net, rows)
        self._steps, self._method, self._text_guidance = settings.steps, settings.method, text_guidance

    @property
    def class_count(self) -> int:
        return self.net.shape.classes

    @property
    def noise_shape(self) -> tuple[int, int, int] | None:
        shape = self.net.shape
        return shape.channels, shape.size_px, shape.size_px

    @property
    def size_px(self) -> int:
        return self.net.shape.size_px

    def generate(self, request: Request) -> Output:
        assert request.noise is not None
        device = request.noise.device
        labels = torch.tensor(list(request.indexes), dtype=torch.int64, device=device)
        guidance = torch.tensor(list(request.guidance), dtype=torch.float32, device=device)
        net, steps, method = self._velocity, self._steps, self._method
        text_guidance = _with_texts(self._text_guidance, request)
        if request.sources is None:
            return Output(samplers.sample(net, request.noise, labels, steps, guidance, method, text_guidance))
        start = with_size(with_channels(request.sources, self.net.shape.channels), self.size_px)
        masks = None if request.masks is None else resized_masks(request.masks, self.size_px)
        run = request.runs[0]
        return Output(
            samplers.edit(net, start, request.noise, labels, steps, run, guidance, method, masks, text_guidance)
        )


class ClassConditionalBackend:
    """A DiT pipeline or a UNet2DModel with its scheduler, in a folder."""

    takes_text, one_guidance, noise_shape = False, False, None

    def __init__(
        self, path: str | Path, device: str, settings: Settings, lora: Path | None, text_guidance: TextGuidance | None
    ) -> None:
        self.model = ClassConditionalModel(path, device, settings.steps, settings.scheduler, settings.dtype)
        if lora is not None:
            merge_lora(self.model, lora, settings.lora_scale)
        self.model.to_device()
        if settings.compiled_rows is not None:
            self.model.predict = FixedShapes(self.model.predict, settings.compiled_rows)
        self._text_guidance = text_guidance
        if text_guidance is not None:
            text_guidance.attach(self.model.scheduler, self.model.decode)
        self.classes, self.class_count = self.model.classes, self.model.class_count
        self.without_class = self.model.null_class is not None
        self.size_px = self.model.size_px

    def generate(self, request: Request) -> Output:
        start = None
        if request.sources is not None:
            images = with_size(with_channels(request.sources, self.model.image_channels), self.size_px)
            start = EditSource(images, None if request.masks is None else resized_masks(request.masks, self.size_px))
        _with_texts(self._text_guidance, request)
        return Output(self.model.generate(request.indexes, request.seeds, request.guidance, request.runs[0], start))


class PipelineBackend:
    """A published pipeline, in a folder: prompts and not classes."""

    takes_text, one_guidance, noise_shape, without_class = True, True, None, True
    classes: tuple[str, ...] = ()
    class_count = 0

    def __init__(
        self, models: Mapping[str, Path], device: str, settings: Settings, text_guidance: TextGuidance | None
    ) -> None:
        folder = models["model"]
        pipeline = load_pipeline(folder, settings.task, models.get("controlnet"))
        if "textual_inversion" in models:
            add_tokens(pipeline, read_tokens(models["textual_inversion"]), models["textual_inversion"])
        if "lora" in models:
            merge_lora(pipeline, models["lora"], settings.lora_scale)
        how = ComputeOptions(settings.dtype, settings.decode, settings.compiled_rows)
        self.pipeline = TextPipeline(
            pipeline, settings.task, folder, device, settings.steps, settings.scheduler, settings.size_px, how
        )
        self._text_guidance = text_guidance
        if text_guidance is not None:
            text_guidance.attach(pipeline.scheduler, self.pipeline.decoder())
        if settings.negative:
            self.pipeline.check_negative()
        self.size_px = self.pipeline.size_px
        self._control_scale = settings.control_scale

    def generate(self, request: Request) -> Output:
        given: dict[str, Any] = {}
        if request.sources is not None:
            given["image"] = _to_unit_range(with_size(with_channels(request.sources, 3), self.size_px))
        if request.masks is not None:
            given["mask_image"] = resized_masks(request.masks, self.size_px)
        if request.edges is not None:
            given["control_image"] = request.edges.expand(-1, 3, -1, -1)
            given["controlnet_conditioning_scale"] = self._control_scale
        _with_texts(self._text_guidance, request)
        images, flagged = self.pipeline(
            request.prompts, request.negatives, request.seeds, request.runs[0], request.guidance[0], **given
        )
        return Output(images, [row for row, each in enumerate(flagged) if each])


def _with_texts(text_guidance: TextGuidance | None, request: Request) -> TextGuidance | None:
    """Give the texts of this request to the text guidance, and return it (None where there is no CLIP model)."""
    if text_guidance is not None:
        text_guidance.texts = request.texts or [""] * len(request.seeds)
    return text_guidance


def load_backend(models: Mapping[str, Path], device: str, settings: Settings) -> DiffusionBackend:
    """Return the backend of the model at `models["model"]`, with the other files that `models` names.

    Raises ModelError where it cannot be loaded, or where a setting is not for this kind of model.
    """
    path = models["model"]
    if "textual_inversion" in models and (not path.is_dir() or is_class_model(path)):
        raise ModelError(f"model {path}: it takes no prompts, so no learned tokens; leave `textual_inversion` out")
    if settings.compiled_rows is not None:
        check_compiler(device)
    text_guidance = (
        TextGuidance(TextImageModel(models["clip_model"], device), settings.clip_guidance_scale)
        if "clip_model" in models and settings.clip_guidance_scale
        else None
    )
    if not path.is_dir():
        _only_for_folders(path, settings, "lora" in models)
        return FlowMatchingBackend(path, device, settings, text_guidance)
    if settings.method != "euler":
        raise ModelError(f"model {path}: method {settings.method!r} is for models in one file; give a scheduler")
    if is_class_model(path):
        if settings.task == "control":
            raise ModelError(
                f"model {path}: a class-conditional model takes no ControlNet; give a text-guided pipeline"
            )
        if settings.size_px is not None:
            raise ModelError(f"model {path}: a class-conditional model has one size; leave size_px out")
        return ClassConditionalBackend(path, device, settings, models.get("lora"), text_guidance)
    return PipelineBackend(models, device, settings, text_guidance)


def _only_for_folders(path: Path, settings: Settings, lora: bool) -> None:
    given = {"scheduler": settings.scheduler, "size_px": settings.size_px, "lora": lora or None}
    for name, value in given.items():
        if value is not None:
            raise ModelError(f"model {path}: {name} is for models in a folder; leave it out")
    if settings.task == "control":
        raise ModelError(f"model {path}: a model in one file takes no ControlNet; give a pipeline's folder or hub id")


@torch.inference_mode()
def generate_in_groups(backend: DiffusionBackend, request: Request) -> Output:
    """Make N images, each with its own number of steps and guidance: one call a combination."""
    calls: dict[tuple[int, float], list[int]] = {}
    for row, run in enumerate(request.runs):
        calls.setdefault((run, request.guidance[row] if backend.one_guidance else 0.0), []).append(row)
    made: Tensor | None = None
    unsafe: list[int] = []
    for _, rows in sorted(calls.items()):
        part = backend.generate(request if len(rows) == len(request.runs) else request.of(rows))
        if made is None:
            made = part.images.new_zeros(len(request.runs), *part.images.shape[1:])
        made[torch.tensor(rows, device=made.device)] = part.images
        unsafe.extend(rows[place] for place in part.unsafe)
    if made is None:
        raise ValueError("there is no image to make")
    return Output(made, unsafe)


def resized_masks(masks: Tensor, size_px: int) -> Tensor:
    """Masks [N, 1, H, W] of 0 and 1 at [N, 1, size_px, size_px], 1 where any part of the pixel is masked."""
    return (with_size(masks, size_px) > 0).to(masks.dtype)


def _to_unit_range(images: Tensor) -> Tensor:
    return images.add(1).div(2).clamp(0, 1)
