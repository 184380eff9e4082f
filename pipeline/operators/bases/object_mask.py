"""Object masks of operators that treat object and background differently: drawn in the middle, or from a column."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from pipeline.algorithms import masks
from pipeline.contracts import Draws, ImageBatch, Parameters
from pipeline.errors import InputError, JobError, RowError
from pipeline.shards.images.codecs import decode

DRAWN = "drawn"
MAX_MASK_PIXELS = 1 << 28
MASK_COLUMN = (
    "the column with the object's mask, of the image's size: images (white = object; `mask` in the column's name) or "
    "lists of rows"
)


class MaskParameters(Parameters):
    """Parameters of a drawn mask: its shape and its share of the image."""

    shape: Literal["box", "ellipse"] = Field("ellipse", description="shape of a drawn mask")
    object_share_range: tuple[float, float] = Field(
        (0.3, 0.5), validate_default=True, description="share of the image that a drawn mask covers, drawn evenly"
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


@dataclass(frozen=True)
class ObjectMasks:
    """The masks of one operator: `source` is `drawn`, or the name of the column that holds them."""

    operator: str
    source: str
    params: MaskParameters

    @property
    def columns(self) -> dict[str, tuple[str, ...]]:
        """The columns to name in `requirements`."""
        return {} if self.source == DRAWN else {"mask": (self.source,)}

    def draw_columns(self, batch: ImageBatch, own: Sequence[np.random.Generator]) -> dict[str, list[Any]]:
        """Return the column to draw: `object_share`, or `mask_sha256`, of each sample (None: no mask to be had).

        Raises InputError where there is no such column.
        """
        if self.source == DRAWN:
            low, high = self.params.object_share_range
            return {"object_share": [float(generator.uniform(low, high)) for generator in own]}
        found = [self._read(cell, batch) for cell in self._cells(batch)]
        return {"mask_sha256": [None if isinstance(each, RowError) else masks.mask_sha256(each) for each in found]}

    def read(self, batch: ImageBatch, draws: Draws) -> tuple[masks.Mask, dict[int, RowError]]:
        """Return the masks [N, H, W] of the objects. A row whose mask cannot be used gets a full mask and a RowError.

        RowErrors: `no_mask` (null or not a mask), `mask_size`, and those of the decoder for a mask's bytes.
        """
        size = self._size(batch)
        if self.source == DRAWN:
            shares = draws.columns["object_share"]
            return np.stack([masks.centred_mask(size, share, self.params.shape) for share in shares]), {}
        found = [self._read(cell, batch) for cell in self._cells(batch)]
        errors = {row: each for row, each in enumerate(found) if isinstance(each, RowError)}
        return np.stack([np.ones(size, dtype=bool) if isinstance(each, RowError) else each for each in found]), errors

    def _size(self, batch: ImageBatch) -> tuple[int, int]:
        if batch.images is None:
            raise JobError(f"{self.operator}: there are no images to edit; put it after an operator that makes some")
        return batch.images.shape[1], batch.images.shape[2]

    def _cells(self, batch: ImageBatch) -> Any:
        if self.source not in batch.columns:
            known = ", ".join(sorted(batch.columns)) or "none"
            raise InputError(
                f"{self.operator}.mask: there is no column {self.source!r} (columns: {known}; a column of images needs "
                "`mask` in its name)"
            )
        return batch.columns[self.source]

    def _read(self, cell: Any, batch: ImageBatch) -> masks.Mask | RowError:
        data = cell.get("bytes") if isinstance(cell, dict) else cell
        try:
            mask = (
                masks.mask_from_pixels(decode(data, MAX_MASK_PIXELS))
                if isinstance(data, bytes)
                else masks.mask_from_lists(data)
            )
            if mask is None:
                return RowError("no_mask", f"column {self.source!r} holds no mask in this row")
            masks.check_size(mask, self._size(batch))
        except RowError as error:
            if error.code == "ambiguous_depth":  # the decoder's remedy, `input.bit_depth`, is not of masks
                return RowError(error.code, "its 16-bit values stay below 4,096; store masks with 8 bits")
            return error
        return mask
