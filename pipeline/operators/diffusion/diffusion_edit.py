"""Redraw images from a noisy version of themselves: new details, same layout (SDEdit, Meng et al. 2022)."""

from typing import ClassVar, Literal

from pipeline.contracts import Applied, Draws, ImageBatch
from pipeline.noise import Noise
from pipeline.operators.bases.diffusion_operator import DiffusionOperator
from pipeline.operators.bases.diffusion_parameters import RedrawParameters
from pipeline.seeding import generators


class DiffusionEditParams(RedrawParameters):
    """Parameters: the model, the strength of the edit, and class or prompts."""


class DiffusionEdit(DiffusionOperator):
    """Edit images of any size: [N, H, W, 1 or 3] uint8 -> [N, S, S, C] uint8 of the model's own size and channels.

    Images are stretched to the model's size and turned to its channels (builtin:fashion-diffusion: 28 px, grey; a
    pipeline: RGB); the runner brings size and channels back to the source's. Draws `class_index` (the model's, -1:
    none, and for a pipeline), `strength`, a whole number of steps, and `guidance`; for a pipeline also `prompt`,
    `negative_prompt` and `prompt_sha256`. RowErrors: `unknown_class` for a label the model does not know, `no_prompt`
    where a prompt's column is null. An image that comes out not finite or all black, or that the model's safety checker
    flags, is rejected as `non_finite`, `black` or `unsafe`. `load` raises ModelError for a model that cannot do this,
    or that a size, scheduler or adapter does not fit; `draw` InputError where a prompt names a column that is not
    there.
    """

    name = "diffusion_edit"
    version = 3  # 1 recorded no guidance; 2 had other memory layouts, and so other sums
    source = "Meng et al. 2022, SDEdit: Guided Image Synthesis and Editing with Stochastic Differential Equations"
    Params = DiffusionEditParams
    task: ClassVar[Literal["edit"]] = "edit"
    micro_batch = 32
    digital_source_type = "compositeWithTrainedAlgorithmicMedia"
    cpu_s_per_megapixel = 15.0  # 4 or 5 steps of the embedded model
    gpu_s_per_megapixel = 0.2
    params: DiffusionEditParams

    def draw(self, batch: ImageBatch) -> Draws:
        """Draw strength, guidance, and class or prompt of every sample."""
        return Draws(self.draw_columns(batch, batch.labels.tolist(), generators(batch.seeds)))

    def apply(self, batch: ImageBatch, draws: Draws, noise: Noise) -> Applied:
        """Add noise and denoise again, in one call for each strength."""
        made = self.generate(batch, draws, noise, sources=self.sources(batch))
        return self.applied(made, self.indexes(batch.labels.tolist(), batch.classes)[1], draws)
