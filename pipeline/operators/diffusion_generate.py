"""Paint new images of a class from noise alone, with a class-conditional pixel diffusion model (flow matching)."""

from typing import Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from pipeline.contracts import Applied, Draws, ImageBatch, Needs, Operator, Parameters, Supply
from pipeline.errors import RowError
from pipeline.noise import Noise
from pipeline.seeding import generators

MOST_GUIDANCE = 20.0


class DiffusionGenerateParams(Parameters):
    """Which model, how many steps, and how strictly it keeps to the class."""

    model: str = Field("builtin:fashion-diffusion", description="builtin:NAME or a file made by `train diffusion`")
    steps: int = Field(16, ge=1, le=1000, description="equal steps from noise to image; more are slower and finer")
    guidance_range: tuple[float, float] = Field(
        (1.0, 1.0),
        description="classifier-free guidance, drawn evenly for each image: 1 = none; more = clearer, less varied",
    )
    method: Literal["euler", "heun"] = Field("euler", description="heun: two network calls a step, second order")

    @field_validator("guidance_range")
    @classmethod
    def _ordered(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= value[0] <= value[1] <= MOST_GUIDANCE:
            raise PydanticCustomError("guidance_range", "needs two numbers within [0, 20], the smaller one first")
        return value


class DiffusionGenerate(Operator):
    """New images [N, S, S, C] uint8 of the model's own size and channels (builtin:fashion-diffusion: 28 px, grey).

    Each image is of its sample's label; no label (-1) means no class in particular. Draws `class_index` (the model's,
    -1: none) and `guidance`; the noise is the sample's own. A label the model does not know is the RowError
    `unknown_class`; an image that is not finite or all black is rejected as `non_finite` or `black`. `load` raises
    ModelError for a file of anything else.
    """

    name = "diffusion_generate"
    version = 1
    source = "Lipman et al. 2023, Flow Matching for Generative Modeling; Ho & Salimans 2022, Classifier-Free Guidance"
    Params = DiffusionGenerateParams
    micro_batch = 64
    generative = True
    digital_source_type = "trainedAlgorithmicMedia"
    cpu_s_per_megapixel = 50.0  # 16 steps of the embedded model, no guidance
    gpu_s_per_megapixel = 0.5
    params: DiffusionGenerateParams

    def needs(self) -> Needs:
        """The model file."""
        return Needs(models={"model": self.params.model})

    def load(self, device: str, supply: Supply) -> None:
        """Load the network."""
        from pipeline.models.diffusion import load_flow

        net, self._classes = load_flow(supply.models["model"])
        self._net = net.to(device)
        self._device = device

    def draw(self, batch: ImageBatch) -> Draws:
        """The class, and how strictly to keep to it, of every sample."""
        low, high = self.params.guidance_range
        if low == high:
            guidance = [low] * len(batch)
        else:
            guidance = [float(generator.uniform(low, high)) for generator in generators(batch.seeds)]
        return Draws({"class_index": self._indexes(batch)[0], "guidance": guidance})

    def apply(self, batch: ImageBatch, draws: Draws, noise: Noise) -> Applied:
        """Follow the learnt velocity from noise to images."""
        import torch

        from pipeline.models import pictures
        from pipeline.models.samplers import sample

        shape = self._net.shape
        with torch.inference_mode():
            start = noise.normal(shape.channels, shape.size_px, shape.size_px).to(self._device)
            labels = torch.tensor(draws.columns["class_index"], dtype=torch.int64, device=self._device)
            guidance = torch.tensor(draws.columns["guidance"], dtype=torch.float32, device=self._device)
            made = sample(self._net, start, labels, self.params.steps, guidance, self.params.method)
            pixels = pictures.to_pixels(made)
            rejected = pictures.flaws(made, pixels)
        return Applied(pixels.numpy(), rejected=rejected, errors=self._indexes(batch)[1])

    def _indexes(self, batch: ImageBatch) -> tuple[list[int], dict[int, RowError]]:
        from pipeline.models.labels import class_indexes

        return class_indexes(batch.labels.tolist(), batch.classes, self._classes, self._net.shape.classes)
