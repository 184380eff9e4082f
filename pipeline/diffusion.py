"""What the diffusion operators share: their parameters, what they draw, and the one call that acts on it."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from pipeline.contracts import Applied, Draws, ImageBatch, Needs, Operator, Parameters, Pixels, Supply
from pipeline.errors import JobError, ModelError, RowError
from pipeline.models import prompts
from pipeline.models.labels import class_indexes
from pipeline.models.strength import draw_guidance, draw_run, steps_run
from pipeline.noise import Noise

if TYPE_CHECKING:
    import numpy as np

    from pipeline.models.painters import Painted, Painter

MOST_GUIDANCE = 20.0
UNSAFE = "unsafe"

Weighted = tuple[tuple[str, float], ...]


def _weighted(value: Any) -> Any:
    """`((value, weight), ...)` from such pairs, from `{value: weight}`, and from texts alone."""
    if isinstance(value, str):
        return ((value, 1.0),)
    if isinstance(value, Mapping):
        return tuple(value.items())
    return tuple((each, 1.0) if isinstance(each, str) else each for each in value) if isinstance(value, list) else value


def _positive(value: Sequence[tuple[Any, float]], name: str) -> None:
    if not value or any(not weight > 0 for _, weight in value):
        raise PydanticCustomError(name, "needs one entry at least, and weights above 0")


class DiffusionParameters(Parameters):
    """Which model, how many steps, how strictly it keeps to what it is told, and what it is told."""

    model: str = Field(
        "builtin:fashion-diffusion",
        description="builtin:NAME, a file made by `train diffusion`, a folder with a diffusers model, or a hub id "
        "(organisation/name@revision)",
    )
    steps: int = Field(10, ge=1, le=1000, description="steps from pure noise to image; an edit runs a part of them")
    scheduler: Literal["ddim", "ddpm", "dpm++2m", "euler", "lcm", "unipc"] | None = Field(
        None, description="diffusers models only; their own if omitted (flow-matching ones always keep their own)"
    )
    guidance: float | None = Field(
        None, ge=0, le=MOST_GUIDANCE, description="classifier-free guidance; 1 = none, also if omitted (pipelines: 7)"
    )
    guidance_range: tuple[float, float] | None = Field(
        None, description="guidance drawn evenly for each image (pipelines: among the halves), instead of `guidance`"
    )
    condition: Literal["class", "none"] = Field(
        "class", description="class: made as what its label says; none: whatever the model makes of it"
    )
    method: Literal["euler", "heun", "adams"] = Field(
        "euler",
        description="models in one file only; heun: two network calls a step, second order; adams: one, second order",
    )
    prompt: Weighted = Field(
        (("a photograph of a {label}", 1.0),),
        description="pipelines only: a template, or templates with weights; {label} is the class name, {column:NAME} "
        "or {NAME} the value of a column",
    )
    negative_prompt: Weighted = Field(
        (), description="pipelines only: what to keep away from; a template, or templates with weights"
    )
    size_px: int | None = Field(
        None, ge=8, le=4096, description="pipelines only: side they work at; their own if omitted"
    )
    lora: str | None = Field(
        None, description="folders and hub ids only: a .safetensors file (or hub id) of an adapter"
    )
    lora_scale: float = Field(1.0, ge=-4, le=4, description="how much of the adapter is added; 1 = as it was trained")
    tokens: str | None = Field(
        None, description="pipelines only: a .safetensors file of words that `train concept` taught; prompts name them"
    )

    @field_validator("prompt", "negative_prompt", mode="before")
    @classmethod
    def _templates(cls, value: Any) -> Any:
        return () if value == "" else _weighted(value)

    @field_validator("prompt", "negative_prompt")
    @classmethod
    def _readable(cls, value: Weighted, info: ValidationInfo) -> Weighted:
        name = str(info.field_name)
        if value or name == "prompt":
            _positive(value, name)
        for template, _ in value:
            try:
                prompts.check_template(template)
            except ValueError as error:
                raise PydanticCustomError(name, "{reason}", {"reason": str(error)}) from None
        return value

    @field_validator("guidance_range")
    @classmethod
    def _ordered(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not 0 <= value[0] <= value[1] <= MOST_GUIDANCE:
            raise PydanticCustomError("guidance_range", "needs two numbers within [0, 20], the smaller one first")
        return value

    @field_validator("lora", "tokens")
    @classmethod
    def _safe(cls, value: str | None) -> str | None:
        if value is not None and value.endswith((".bin", ".pt", ".pth", ".ckpt")):
            raise PydanticCustomError("pickle", "is a pickle, which is not safe to load; convert it to .safetensors")
        return value

    @model_validator(mode="after")
    def _one_guidance(self) -> "DiffusionParameters":
        if self.guidance is not None and self.guidance_range is not None:
            raise PydanticCustomError("guidance", "guidance and guidance_range are both given; leave one out")
        return self

    @property
    def guidances(self) -> tuple[float, float]:
        """Lowest and highest guidance."""
        if self.guidance_range is not None:
            return self.guidance_range
        return (1.0, 1.0) if self.guidance is None else (self.guidance, self.guidance)


class RedrawParameters(DiffusionParameters):
    """And how strongly a source image is redrawn."""

    strengths: tuple[tuple[float, float], ...] | None = Field(
        None, description="strengths with their probabilities, [[0.3, 0.5], [0.6, 0.5]], instead of `strength_range`"
    )
    strength_range: tuple[float, float] = Field(
        (0.3, 0.6),
        validate_default=True,
        description="share of the steps that is run, drawn for each image among whole steps: 1 = nothing kept",
    )

    @field_validator("strengths", mode="before")
    @classmethod
    def _pairs(cls, value: Any) -> Any:
        return _weighted(value)

    @field_validator("strengths")
    @classmethod
    def _all_run(
        cls, value: tuple[tuple[float, float], ...] | None, info: ValidationInfo
    ) -> tuple[tuple[float, float], ...] | None:
        if value is not None:
            _positive(value, "strengths")
            for strength, _ in value:
                if not 0 <= strength <= 1:
                    raise PydanticCustomError("strengths", "needs strengths within [0, 1]")
                _check_runs("strengths", strength, info)
        return value

    @field_validator("strength_range")
    @classmethod
    def _runs(cls, value: tuple[float, float], info: ValidationInfo) -> tuple[float, float]:
        if not 0 <= value[0] <= value[1] <= 1:
            raise PydanticCustomError("strength_range", "needs two shares within [0, 1], the smaller one first")
        if not info.data.get("strengths"):
            _check_runs("strength_range", value[0], info)
        return value


def _check_runs(name: str, strength: float, info: ValidationInfo) -> None:
    try:
        steps_run(info.data.get("steps", 1000), strength)
    except ValueError as error:
        raise PydanticCustomError(name, "{reason}", {"reason": str(error)}) from None


class DiffusionOperator(Operator):
    """Base of the diffusion operators: loads a painter, draws what it is told, and turns what it paints to pixels."""

    task: ClassVar[Literal["control", "edit", "generate", "inpaint"]]
    params: DiffusionParameters

    def needs(self) -> Needs:
        """The model, a file or a folder; the adapter, and the learned words."""
        models = {"model": self.params.model, "lora": self.params.lora, "tokens": self.params.tokens}
        return Needs(models={name: reference for name, reference in models.items() if reference is not None})

    def load(self, device: str, supply: Supply) -> None:
        """Load the network, or the pipeline."""
        from pipeline.models.painters import Settings, load_painter

        params = self.params
        settings = Settings(
            task=self.task,
            steps=params.steps,
            method=params.method,
            scheduler=params.scheduler,
            size_px=params.size_px,
            lora_scale=params.lora_scale,
            negative=bool(params.negative_prompt),
            control_scale=getattr(params, "control_scale", 1.0),
        )
        self._device = device
        self._painter: Painter = load_painter(supply.models, device, settings)
        self._check(supply)
        once = ("strength",) if isinstance(params, RedrawParameters) else ()
        self.once_per_call = (*once, "guidance") if self._painter.one_guidance else once

    def _check(self, supply: Supply) -> None:
        params, painter, model = self.params, self._painter, supply.models["model"]
        if painter.takes_text:
            return
        if params.guidances != (1.0, 1.0) and not painter.without_class:
            raise ModelError(f"model {model}: it has no class of none, which guidance needs; leave guidance out")
        if self.task == "generate" and params.condition == "class" and not painter.class_count:
            raise ModelError(f"model {model}: it knows no classes; write `condition: none` to make images of any")

    # ---- draw ----

    def drawn(
        self, batch: ImageBatch, labels: Sequence[int], own: Sequence["np.random.Generator"]
    ) -> dict[str, list[Any]]:
        """Class or prompt, strength and guidance of every sample, which is to become of class `labels` [N].

        own: the samples' generators; they go on from where they are.
        """
        params, painter = self.params, self._painter
        columns: dict[str, list[Any]] = {"class_index": self.indexes(labels, batch.classes)[0]}
        if isinstance(params, RedrawParameters):
            runs = [draw_run(each, params.steps, params.strength_range, params.strengths) for each in own]
            columns["strength"] = [run / params.steps for run in runs]
        columns["guidance"] = [draw_guidance(each, params.guidances, painter.one_guidance) for each in own]
        if painter.takes_text:
            wording = prompts.Wording(params.prompt, params.negative_prompt)
            names = [self._name(batch.classes, label) for label in labels]
            columns["prompt"], columns["negative_prompt"] = wording.draw(own, names, batch.columns)
            columns["prompt_sha256"] = [prompts.text_sha256(text) for text in columns["prompt"]]
        return columns

    def indexes(self, labels: Sequence[int], names: Sequence[str]) -> tuple[list[int], dict[int, RowError]]:
        """The model's class of each label, -1 where it is told none; and a RowError where it has no such class."""
        painter = self._painter
        if self.params.condition == "none" or not painter.class_count:
            labels = [-1] * len(labels)
        found, errors = class_indexes(labels, names, painter.classes, painter.class_count)
        if painter.class_count and not painter.without_class:
            bare = RowError("unknown_class", "the row has no label, and the model makes nothing without a class")
            errors |= {row: bare for row, index in enumerate(found) if index < 0 and row not in errors}
        return found, errors

    def _name(self, classes: Sequence[str], label: int) -> str:
        named = self.params.condition == "class" and 0 <= label < len(classes)
        return str(classes[label]) if named else ""

    # ---- apply ----

    def painted(self, batch: ImageBatch, draws: Draws, noise: Noise, **images: Any) -> "Painted":
        """What the model makes of the draws; `images` are what `Instructions` holds beside them."""
        from pipeline.models.painters import Instructions, paint_in_turn

        count, columns = len(batch), draws.columns
        shape = self._painter.noise_shape
        strengths = columns.get("strength", [1.0] * count)
        told = Instructions(
            seeds=batch.seeds,
            indexes=columns["class_index"],
            runs=[round(strength * self.params.steps) for strength in strengths],
            guidance=columns["guidance"],
            prompts=[text or "" for text in columns.get("prompt", [None] * count)],
            negatives=[text or "" for text in columns.get("negative_prompt", [None] * count)],
            noise=noise.normal(*shape).to(self._device) if shape else None,
            **images,
        )
        return paint_in_turn(self._painter, told)

    def sources(self, batch: ImageBatch) -> Any:
        """The batch's images as a tensor [N, C, H, W] in [-1, 1]. Raises JobError where there are none."""
        import numpy as np
        import torch

        from pipeline.models.pictures import from_pixels

        if batch.images is None:
            raise JobError(f"{self.name}: there are no images to edit; put it after an operator that makes some")
        return from_pixels(torch.from_numpy(np.array(batch.images, order="C")).to(self._device))

    def applied(self, made: "Painted", errors: Mapping[int, RowError], draws: Draws, **labels: Any) -> Applied:
        """Pixels of what was painted; `non_finite`, `black` and `unsafe` images are rejected, null prompts errors."""
        from pipeline.models import pictures

        pixels = pictures.to_pixels(made.images)
        rejected = {**pictures.flaws(made.images, pixels), **dict.fromkeys(made.unsafe, UNSAFE)}
        if "prompt" in draws.columns:
            columns = draws.columns
            errors = {**prompts.missing_prompts(columns["prompt"], columns["negative_prompt"]), **errors}
        images: Pixels = pixels.numpy()
        return Applied(images, rejected=rejected, errors=errors, **labels)
