"""Inpaint one part of an image and leave the other as it is: another background for an object, or the reverse."""

from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from pipeline.contracts import Applied, Draws, ImageBatch, Requirements
from pipeline.noise import Noise
from pipeline.operators.bases.diffusion_operator import DiffusionOperator
from pipeline.operators.bases.diffusion_parameters import RedrawParameters
from pipeline.operators.bases.object_mask import DRAWN, MASK_COLUMN, MaskParameters, ObjectMasks
from pipeline.seeding import generators


class DiffusionInpaintParams(RedrawParameters, MaskParameters):
    """Parameters: the object mask, which part stays, and what the other part becomes."""

    mask: str = Field(DRAWN, description=f"drawn: a shape in the middle; else {MASK_COLUMN}")
    keep: Literal["object", "background"] = Field("object", description="what stays as it is; the rest is repainted")
    strength_range: tuple[float, float] = Field(
        (1.0, 1.0),
        validate_default=True,
        description="share of the steps that is run, drawn for each image among whole steps: 1 = nothing of it kept",
    )


class DiffusionInpaint(DiffusionOperator):
    """Repaint a part of images: [N, H, W, C] uint8 -> [N, H, W, C] uint8, what stays equal to the source to the byte.

    The model works at its own size; its output is brought to the source's size and channels and laid in. Draws
    those of `diffusion_edit`, and `object_share` (drawn) or `mask_sha256` (column). RowErrors: `no_mask` (null or not a
    mask), `mask_size`, those of the decoder for a mask's bytes, `unknown_class`, `no_prompt`; rejections as in
    `diffusion_edit`. `draw` raises InputError where there is no such column.
    """

    name = "diffusion_inpaint"
    version = 2  # 1 had other memory layouts, and so other sums
    source = "Meng et al. 2022, SDEdit, algorithm 2; Rombach et al. 2022, High-Resolution Image Synthesis (inpainting)"
    Params = DiffusionInpaintParams
    task: ClassVar[Literal["inpaint"]] = "inpaint"
    micro_batch = 8
    digital_source_type = "compositeWithTrainedAlgorithmicMedia"
    cpu_s_per_megapixel = 35.0  # ten steps of the embedded model
    gpu_s_per_megapixel = 0.4
    params: DiffusionInpaintParams

    def requirements(self) -> Requirements:
        """What every diffusion operator needs, and the column with masks."""
        found = super().requirements()
        return replace(found, columns={**found.columns, **self._masks().columns})

    def draw(self, batch: ImageBatch) -> Draws:
        """Draw what `diffusion_edit` draws, and the object's share of the image, or the sha256 of its mask."""
        own = generators(batch.seeds)
        columns = self.draw_columns(batch, batch.labels.tolist(), own)
        columns |= self._masks().draw_columns(batch, own)
        return Draws(columns)

    def apply(self, batch: ImageBatch, draws: Draws, noise: Noise) -> Applied:
        """Inpaint the images, and copy back the pixels that are kept."""
        import torch

        from pipeline.diffusion.backends import Output
        from pipeline.networks.pixel_tensors import with_channels, with_size

        sources = self.sources(batch)
        objects, errors = self._masks().read(batch, draws)
        free = objects if self.params.keep == "background" else ~objects
        where = torch.from_numpy(free[:, None]).to(self._device)
        made = self.generate(batch, draws, noise, sources=sources, masks=where.float())
        fitted = with_channels(with_size(made.images, objects.shape[1:]), sources.shape[1])
        broken = ~made.images.isfinite().all(dim=(1, 2, 3))
        laid = torch.where(where, fitted, sources)
        laid[broken] = torch.nan  # what the model failed at stays a failure, whatever was kept
        errors |= self.indexes(batch.labels.tolist(), batch.classes)[1]
        applied = self.applied(Output(laid, made.unsafe), errors, draws)
        assert batch.images is not None
        images = np.where(free[..., None], applied.images, batch.images)
        images[broken.cpu().numpy()] = 0
        return Applied(np.ascontiguousarray(images), rejected=applied.rejected, errors=applied.errors)

    def _masks(self) -> ObjectMasks:
        return ObjectMasks(self.name, self.params.mask, self.params)
