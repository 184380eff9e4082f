"""Parameters that the diffusion operators share, and their validation."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from pipeline.contracts import Parameters
from pipeline.diffusion import prompts
from pipeline.diffusion.strength import step_count

MAX_GUIDANCE = 20.0

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


def _check_template(name: str, template: str) -> None:
    try:
        prompts.check_template(template)
    except ValueError as error:
        raise PydanticCustomError(name, "{reason}", {"reason": str(error)}) from None


class DiffusionParameters(Parameters):
    """Parameters of all diffusion operators: model, steps, guidance, prompts, adapters and CLIP guidance."""

    renamed: ClassVar[Mapping[str, str]] = {
        "tokens": "textual_inversion",
        "clip": "clip_model",
        "clip_scale": "clip_guidance_scale",
        "clip_text": "clip_prompt",
    }

    model: str = Field(
        "builtin:fashion-diffusion",
        description="builtin:NAME, a file made by `train diffusion`, a folder with a diffusers model, or a hub id "
        "(organisation/name@revision)",
    )
    force: bool = Field(
        False, exclude=True, description="run an embedded model on images that it was not made for, too"
    )
    steps: int = Field(10, ge=1, le=1000, description="steps from pure noise to image; an edit runs a part of them")
    scheduler: Literal["ddim", "ddpm", "dpm++2m", "euler", "lcm", "unipc"] | None = Field(
        None, description="diffusers models only; their own if omitted (flow-matching ones always keep their own)"
    )
    guidance: float | None = Field(
        None, ge=0, le=MAX_GUIDANCE, description="classifier-free guidance; 1 = none, also if omitted (pipelines: 7)"
    )
    guidance_range: tuple[float, float] | None = Field(
        None, description="guidance drawn evenly for each image (pipelines: among the halves), instead of `guidance`"
    )
    condition: Literal["class", "none"] = Field(
        "class", description="class: guided by the class of its label; none: without a class"
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
        (), description="pipelines only: what images should not show; a template, or templates with weights"
    )
    size_px: int | None = Field(
        None, ge=8, le=4096, description="pipelines only: image side they work at; their own if omitted"
    )
    lora: str | None = Field(
        None, description="folders and hub ids only: a .safetensors file (or hub id) of an adapter"
    )
    lora_scale: float = Field(1.0, ge=-4, le=4, description="how much of the adapter is added; 1 = as it was trained")
    textual_inversion: str | None = Field(
        None, description="pipelines only: a .safetensors file of words that `train concept` taught; prompts name them"
    )

    clip_model: str | None = Field(
        None,
        description="a folder with a CLIP model of transformers (safetensors), or a hub id: every step moves the image "
        "to where that model sees more of its text",
    )
    clip_guidance_scale: float = Field(
        0.2,
        ge=0,
        le=4,
        description="how far clip may move an image, all steps together: a root mean square over [-1, 1], or over "
        "latents of deviation 1; 0 = not at all",
    )
    clip_prompt: str | None = Field(
        None,
        description="the text that clip guides towards, a template as in `prompt`; if omitted the prompt itself, or "
        "'a photo of a {label}' where the model takes none",
    )
    decode: Literal["whole", "sliced", "tiled"] = Field(
        "whole",
        description="pipelines only: how the autoencoder takes a batch: at once, image by image, or in overlapping "
        "tiles; the latter need less memory",
    )
    compile: bool = Field(
        False,
        description="compile the network when it is first called (seconds to minutes); calls are padded to a whole "
        "micro-batch, so they cannot be halved where memory runs out",
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
            _check_template(name, template)
        return value

    @field_validator("clip_prompt")
    @classmethod
    def _pulls(cls, value: str | None) -> str | None:
        if value is not None:
            _check_template("clip_prompt", value)
        return value

    @field_validator("guidance_range")
    @classmethod
    def _ordered(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not 0 <= value[0] <= value[1] <= MAX_GUIDANCE:
            raise PydanticCustomError("guidance_range", "needs two numbers within [0, 20], the smaller one first")
        return value

    @field_validator("lora", "textual_inversion")
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
    """Parameters of diffusion operators that edit a source image: those above, and the strength of the edit."""

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
        step_count(info.data.get("steps", 1000), strength)
    except ValueError as error:
        raise PydanticCustomError(name, "{reason}", {"reason": str(error)}) from None
