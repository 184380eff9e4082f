"""Generate new images of a class or of a prompt, from noise alone, with any diffusion model."""

from typing import ClassVar, Literal

from pydantic import Field

from pipeline.contracts import Applied, Draws, ImageBatch
from pipeline.noise import Noise
from pipeline.operators.bases.diffusion_operator import DiffusionOperator
from pipeline.operators.bases.diffusion_parameters import DiffusionParameters
from pipeline.seeding import generators


class DiffusionGenerateParams(DiffusionParameters):
    """Parameters: the model, its steps, and the guidance towards class or prompt."""

    steps: int = Field(16, ge=1, le=1000, description="equal steps from noise to image; more are slower and finer")


class DiffusionGenerate(DiffusionOperator):
    """New images [N, S, S, C] uint8 of the model's own size and channels (builtin:fashion-diffusion: 28 px, grey).

    Each image is of its sample's label; no label (-1) means no class in particular. Models that know classes (one of
    ours, DiT, a UNet2DModel) get the class, pipelines a prompt. Draws `class_index` (the model's, -1: none) and
    `guidance`, for a pipeline also `prompt`, `negative_prompt` and `prompt_sha256`; the noise is the sample's own.
    RowErrors: `unknown_class`. An image that is not finite or all black, or that the model's safety checker flags, is
    rejected as `non_finite`, `black` or `unsafe`. `load` raises ModelError for a model that cannot do this; `draw`
    InputError for a prompt with a column, of which a branch without sources has none.
    """

    name = "diffusion_generate"
    version = 2  # 1 had other memory layouts, and so other sums
    source = "Lipman et al. 2023, Flow Matching for Generative Modeling; Ho & Salimans 2022, Classifier-Free Guidance"
    Params = DiffusionGenerateParams
    task: ClassVar[Literal["generate"]] = "generate"
    micro_batch = 64
    generative = True
    digital_source_type = "trainedAlgorithmicMedia"
    cpu_s_per_megapixel = 50.0  # 16 steps of the embedded model, no guidance
    gpu_s_per_megapixel = 0.5
    params: DiffusionGenerateParams

    def draw(self, batch: ImageBatch) -> Draws:
        """Draw the class or the prompt, and the guidance, of every sample."""
        return Draws(self.draw_columns(batch, batch.labels.tolist(), generators(batch.seeds)))

    def apply(self, batch: ImageBatch, draws: Draws, noise: Noise) -> Applied:
        """Sample images from noise."""
        made = self.generate(batch, draws, noise)
        return self.applied(made, self.indexes(batch.labels.tolist(), batch.classes)[1], draws)
