"""Repaint one part of an image and leave the other as it is: another background for an object, or the reverse."""

from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from pipeline.contracts import Applied, Draws, ImageBatch
from pipeline.diffusion.operator import DiffusionOperator
from pipeline.diffusion.parameters import RedrawParameters
from pipeline.errors import InputError, JobError, RowError
from pipeline.models import masks
from pipeline.noise import Noise
from pipeline.seeding import generators
from pipeline.shards.codecs import decode

DRAWN = "drawn"
MOST_MASK_PIXELS = 1 << 28


class DiffusionInpaintParams(RedrawParameters):
    """Where the object is, which part stays, and what the other becomes."""

    mask: str = Field(
        DRAWN,
        description="drawn: a shape in the middle; else the column with the object's mask, of the image's size: images "
        "(white = object; `mask` in the column's name) or lists of rows",
    )
    keep: Literal["object", "background"] = Field("object", description="what stays as it is; the rest is repainted")
    shape: Literal["box", "ellipse"] = Field("ellipse", description="of a drawn mask")
    object_share_range: tuple[float, float] = Field(
        (0.3, 0.5), validate_default=True, description="share of the image that a drawn mask covers, drawn evenly"
    )
    strength_range: tuple[float, float] = Field(
        (1.0, 1.0),
        validate_default=True,
        description="share of the steps that is run, drawn for each image among whole steps: 1 = nothing of it kept",
    )

    @field_validator("object_share_range")
    @classmethod
    def _fits(cls, value: tuple[float, float], info: ValidationInfo) -> tuple[float, float]:
        widest = masks.WIDEST[info.data.get("shape", "box")]
        if not 0 < value[0] <= value[1] <= widest:
            raise PydanticCustomError(
                "object_share_range", "needs two shares within (0, {widest}]", {"widest": f"{widest:.2f}"}
            )
        return value


class DiffusionInpaint(DiffusionOperator):
    """Repaint a part of images: [N, H, W, C] uint8 -> [N, H, W, C] uint8, what stays equal to the source to the byte.

    The model works at its own size; what it paints is brought to the source's size and channels and laid in. Draws
    those of `diffusion_edit`, and `object_share` (drawn) or `mask_sha256` (column). RowErrors: `no_mask` (null or not a
    mask), `mask_size`, those of the decoder for a mask's bytes, `unknown_class`, `no_prompt`; rejections as in
    `diffusion_edit`. `draw` raises InputError where there is no such column.
    """

    name = "diffusion_inpaint"
    version = 1
    source = "Meng et al. 2022, SDEdit, algorithm 2; Rombach et al. 2022, High-Resolution Image Synthesis (inpainting)"
    Params = DiffusionInpaintParams
    task: ClassVar[Literal["inpaint"]] = "inpaint"
    micro_batch = 8
    digital_source_type = "compositeWithTrainedAlgorithmicMedia"
    cpu_s_per_megapixel = 35.0  # ten steps of the embedded model
    gpu_s_per_megapixel = 0.4
    params: DiffusionInpaintParams

    def draw(self, batch: ImageBatch) -> Draws:
        """What `diffusion_edit` draws, and the share of the object, or the identity of its mask."""
        own = generators(batch.seeds)
        columns = self.drawn(batch, batch.labels.tolist(), own)
        if self.params.mask == DRAWN:
            low, high = self.params.object_share_range
            columns["object_share"] = [float(generator.uniform(low, high)) for generator in own]
        else:
            found = [self._read(cell, batch) for cell in self._cells(batch)]
            columns["mask_sha256"] = [None if isinstance(each, RowError) else masks.mask_sha256(each) for each in found]
        return Draws(columns)

    def apply(self, batch: ImageBatch, draws: Draws, noise: Noise) -> Applied:
        """Repaint, and put back what stays."""
        import torch

        from pipeline.models.painters import Painted
        from pipeline.models.pictures import with_channels

        sources, size = self.sources(batch), self._size(batch)
        objects, errors = self._objects(batch, draws)
        free = objects if self.params.keep == "background" else ~objects
        where = torch.from_numpy(free[:, None]).to(self._device)
        made = self.painted(batch, draws, noise, sources=sources, masks=where.float())
        fitted = with_channels(_stretched(made.images, size), sources.shape[1])
        broken = ~made.images.isfinite().all(dim=(1, 2, 3))
        laid = torch.where(where, fitted, sources)
        laid[broken] = torch.nan  # what the model failed at stays a failure, whatever was kept
        errors |= self.indexes(batch.labels.tolist(), batch.classes)[1]
        applied = self.applied(Painted(laid, made.unsafe), errors, draws)
        assert batch.images is not None
        images = np.where(free[..., None], applied.images, batch.images)
        images[broken.cpu().numpy()] = 0
        return Applied(np.ascontiguousarray(images), rejected=applied.rejected, errors=applied.errors)

    def _objects(self, batch: ImageBatch, draws: Draws) -> tuple[masks.Mask, dict[int, RowError]]:
        """Where the object is, [N, H, W]; a row whose mask cannot be used is all object, and an error."""
        size = self._size(batch)
        if self.params.mask == DRAWN:
            shares = draws.columns["object_share"]
            return np.stack([masks.middle(size, share, self.params.shape) for share in shares]), {}
        found = [self._read(cell, batch) for cell in self._cells(batch)]
        errors = {row: each for row, each in enumerate(found) if isinstance(each, RowError)}
        return np.stack([np.ones(size, dtype=bool) if isinstance(each, RowError) else each for each in found]), errors

    def _size(self, batch: ImageBatch) -> tuple[int, int]:
        if batch.images is None:
            raise JobError("diffusion_inpaint: there are no images to edit; put it after an operator that makes some")
        return batch.images.shape[1], batch.images.shape[2]

    def _cells(self, batch: ImageBatch) -> Any:
        name = self.params.mask
        if name not in batch.columns:
            known = ", ".join(sorted(batch.columns)) or "none"
            raise InputError(
                f"diffusion_inpaint.mask: there is no column {name!r} (columns: {known}; a column of images needs "
                "`mask` in its name)"
            )
        return batch.columns[name]

    def _read(self, cell: Any, batch: ImageBatch) -> masks.Mask | RowError:
        size = self._size(batch)
        data = cell.get("bytes") if isinstance(cell, dict) else cell
        try:
            mask = masks.as_mask(decode(data, MOST_MASK_PIXELS)) if isinstance(data, bytes) else masks.listed(data)
            if mask is None:
                return RowError("no_mask", f"column {self.params.mask!r} holds no mask in this row")
            masks.check_size(mask, size)
        except RowError as error:
            return error
        return mask


def _stretched(images: Any, size: tuple[int, int]) -> Any:
    import torch.nn.functional as F

    return images if images.shape[-2:] == size else F.interpolate(images, size, mode="bilinear", antialias=True)
