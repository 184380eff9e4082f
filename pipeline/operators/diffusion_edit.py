"""Redraw images from a noisy version of themselves: new details, same layout (SDEdit, Meng et al. 2022)."""

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from pipeline.contracts import Applied, Draws, ImageBatch, Needs, Operator, Parameters, Supply
from pipeline.errors import JobError, RowError
from pipeline.noise import Noise
from pipeline.seeding import generators

if TYPE_CHECKING:
    from pipeline.models.editors import Editor

LABEL_FIELD = "{label}"


class DiffusionEditParams(Parameters):
    """Which model, how strongly it redraws, and what it is told."""

    model: str = Field(
        "builtin:fashion-diffusion",
        description="builtin:NAME, a file made by `train diffusion`, or a folder with a diffusers pipeline",
    )
    steps: int = Field(10, ge=1, le=1000, description="steps from pure noise to image; an edit runs a part of them")
    strength_range: tuple[float, float] = Field(
        (0.3, 0.6),
        validate_default=True,
        description="share of the steps that is run, drawn for each image among whole steps: 1 = nothing kept",
    )
    guidance: float = Field(1.0, ge=0, le=20, description="classifier-free guidance; 1 = none (pipelines: about 7)")
    condition: Literal["class", "none"] = Field(
        "class", description="class: redrawn as what its label says; none: whatever the model makes of it"
    )
    method: Literal["euler", "heun"] = Field("euler", description="heun: two network calls a step; not for pipelines")
    prompt: str = Field("a photograph of a {label}", description="pipelines only; {label} is the class name")
    negative_prompt: str = Field("", description="pipelines only")
    size_px: int | None = Field(
        None, ge=8, le=4096, description="pipelines only: side they work at; their own if omitted"
    )

    @field_validator("strength_range")
    @classmethod
    def _runs(cls, value: tuple[float, float], info: ValidationInfo) -> tuple[float, float]:
        from pipeline.models.strength import steps_run

        if not 0 <= value[0] <= value[1] <= 1:
            raise PydanticCustomError("strength_range", "needs two shares within [0, 1], the smaller one first")
        try:
            steps_run(info.data.get("steps", 1000), value[0])
        except ValueError as error:
            raise PydanticCustomError("strength_range", "{reason}", {"reason": str(error)}) from None
        return value


class DiffusionEdit(Operator):
    """Edit images of any size: [N, H, W, 1 or 3] uint8 -> [N, S, S, C] uint8 of the model's own size and channels.

    Images are stretched to the model's size and turned to its channels (builtin:fashion-diffusion: 28 px, grey; a
    pipeline: RGB); the runner brings size and channels back to the source's. Draws `class_index` (the model's, -1:
    none; -1 for a pipeline), `strength`, a whole number of steps, and `prompt` (null without a pipeline). A label the
    model does not know is the RowError `unknown_class`; an image that comes out not finite or all black is rejected as
    `non_finite` or `black`. `load` raises ModelError for a file or folder of anything else, JobError for a size that
    the pipeline cannot take.
    """

    name = "diffusion_edit"
    version = 1
    source = "Meng et al. 2022, SDEdit: Guided Image Synthesis and Editing with Stochastic Differential Equations"
    Params = DiffusionEditParams
    micro_batch = 32
    once_per_call = ("strength",)
    digital_source_type = "compositeWithTrainedAlgorithmicMedia"
    cpu_s_per_megapixel = 15.0  # 4 or 5 steps of the embedded model
    gpu_s_per_megapixel = 0.2
    params: DiffusionEditParams

    def needs(self) -> Needs:
        """The model: a file or a folder."""
        return Needs(models={"model": self.params.model})

    def load(self, device: str, supply: Supply) -> None:
        """Load the network, or the pipeline."""
        from pipeline.models.editors import FlowEditor, PipelineEditor

        path, params = supply.models["model"], self.params
        self._device = device
        self._editor: Editor
        if path.is_dir():
            self._editor = PipelineEditor(
                path, device, params.steps, params.guidance, params.size_px, params.negative_prompt
            )
        else:
            self._editor = FlowEditor(path, device, params.steps, params.guidance, params.method)

    def draw(self, batch: ImageBatch) -> Draws:
        """Strength of every sample; and its class or its prompt."""
        from pipeline.models.strength import steps_run

        steps = self.params.steps
        low, high = (steps_run(steps, strength) for strength in self.params.strength_range)
        strengths = [int(generator.integers(low, high + 1)) / steps for generator in generators(batch.seeds)]
        prompts = [None if self._editor.noise_shape else self._prompt(batch, int(label)) for label in batch.labels]
        return Draws({"class_index": self._indexes(batch)[0], "strength": strengths, "prompt": prompts})

    def apply(self, batch: ImageBatch, draws: Draws, noise: Noise) -> Applied:
        """Add noise, and take it away again, in one call for each strength."""
        import torch

        from pipeline.models import pictures
        from pipeline.models.editors import Instructions, edit_in_turn

        if batch.images is None:
            raise JobError("diffusion_edit: there are no images to edit; put it after an operator that makes some")
        runs = [round(strength * self.params.steps) for strength in draws.columns["strength"]]
        shape = self._editor.noise_shape
        with torch.inference_mode():
            told = Instructions(
                indexes=torch.tensor(draws.columns["class_index"], dtype=torch.int64, device=self._device),
                prompts=[prompt or "" for prompt in draws.columns["prompt"]],
                seeds=batch.seeds,
                noise=noise.normal(*shape).to(self._device) if shape else None,
            )
            pixels = torch.from_numpy(np.array(batch.images, order="C")).to(self._device)
            made = edit_in_turn(self._editor, pictures.from_pixels(pixels), told, runs)
            images = pictures.to_pixels(made)
            rejected = pictures.flaws(made, images)
        return Applied(images.numpy(), rejected=rejected, errors=self._indexes(batch)[1])

    def _indexes(self, batch: ImageBatch) -> tuple[list[int], dict[int, RowError]]:
        from pipeline.models.labels import class_indexes

        if self.params.condition == "none" or not self._editor.class_count:
            return [-1] * len(batch), {}
        return class_indexes(batch.labels.tolist(), batch.classes, self._editor.classes, self._editor.class_count)

    def _prompt(self, batch: ImageBatch, label: int) -> str:
        """The prompt with the class name in it; without a name, or with `condition: none`, the name is left out."""
        named = self.params.condition == "class" and 0 <= label < len(batch.classes)
        name = str(batch.classes[label]) if named else ""
        return " ".join(self.params.prompt.replace(LABEL_FIELD, name).split())
