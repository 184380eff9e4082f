"""Give an image the colours of a reference image; shapes stay, so the label does too."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from pipeline.algorithms.color_maps import ColourStatistics, Method, statistics, transfer_colours
from pipeline.contracts import Applied, Assets, Draws, ImageBatch, Operator, Parameters, Requirements
from pipeline.errors import JobError
from pipeline.noise import Noise
from pipeline.operators.bases.reference_set import ReferenceSet
from pipeline.seeding import generators
from pipeline.validation import ShareRange


class ColorTransferParams(Parameters):
    """Parameters: the reference images, the method, and the strength (alpha)."""

    renamed: ClassVar[Mapping[str, str]] = {"most_gain": "max_gain"}

    styles: str = Field(
        "builtin:styles", description="images to take colours from: folder, glob, Parquet set or builtin:styles"
    )
    method: Method = Field(
        "optimal_transport",
        description="reinhard: mean and deviation in l-alpha-beta; coral: whiten and recolour RGB; "
        "optimal_transport: the linear map that moves RGB colours the least",
    )
    alpha_range: ShareRange = Field(
        (0.3, 0.9), description="share of the new colours, drawn evenly for each image: 0 = unchanged, 1 = all of them"
    )
    max_gain: float = Field(
        4.0, ge=1, le=1000, description="greatest factor for contrast: limits the noise of nearly flat images"
    )


class ColorTransfer(Operator):
    """Give images the colours of a drawn reference: [N, H, W, C] uint8 -> the same shape, channels as they were.

    RGB (C = 3): the drawn share of the mapped colours and the rest of the image's own, mixed in RGB levels, rounded and
    clipped. Grey (C = 1) has no colours: by every method its mean and deviation become those of the reference's luma.
    A constant image takes the reference's mean. Draws `style` (first 16 hex digits of the reference's sha256),
    `style_name` and `alpha`; the reference is also a partner. `load` raises JobError where there is no reference or one
    that is no image, `apply` where the batch has no images.
    """

    name = "color_transfer"
    version = 1
    source = (
        "Reinhard et al. 2001, Color Transfer between Images; Sun et al. 2016, Return of Frustratingly Easy Domain "
        "Adaptation (CORAL); Pitie & Kokaram 2007, The Linear Monge-Kantorovitch Linear Colour Mapping, section 3.3"
    )
    Params = ColorTransferParams
    micro_batch = 64
    uses_torch = False
    cpu_s_per_megapixel = 0.1
    params: ColorTransferParams

    def __init__(self, params: ColorTransferParams) -> None:
        super().__init__(params)
        self._reference_set: ReferenceSet | None = None
        self._statistics: list[ColourStatistics] = []

    def requirements(self) -> Requirements:
        """The images whose colours are taken."""
        return Requirements(images={"styles": self.params.styles})

    def load(self, device: str, assets: Assets) -> None:  # noqa: ARG002 - NumPy on any device
        """Read each reference once and keep its colour statistics."""
        from pipeline.shards.images.codecs import decode

        reference_set = ReferenceSet("color_transfer.styles", self.params.styles, assets.images["styles"])
        self._statistics = [statistics(reference_set.pixels(place, decode)) for place in range(len(reference_set))]
        self._reference_set = reference_set

    def draw(self, batch: ImageBatch) -> Draws:
        """A reference, and the share of its colours, of every sample."""
        reference_set = self._references()
        places, alphas = [], []
        for generator in generators(batch.seeds):
            places.append(reference_set.draw(generator))
            alphas.append(float(generator.uniform(*self.params.alpha_range)))
        columns: dict[str, list[Any]] = {
            "style": [reference_set.keys[place] for place in places],
            "style_name": [reference_set.names[place] for place in places],
            "alpha": alphas,
        }
        return Draws(columns, partners=[[reference_set.partners[place]] for place in places])

    def apply(self, batch: ImageBatch, draws: Draws, noise: Noise) -> Applied:  # noqa: ARG002 - nothing to add
        """Move the colours of each image, one image at a time."""
        if batch.images is None:
            raise JobError("color_transfer: there are no images to colour; put it after an operator that makes some")
        reference_set = self._references()
        made = np.empty_like(batch.images, order="C")
        for index, image in enumerate(batch.images):
            row = draws.row(index)
            target = self._statistics[reference_set.place(row["style"])]
            moved = transfer_colours(image, target, self.params.method, self.params.max_gain)
            mixed = image + row["alpha"] * (moved - image)
            made[index] = np.rint(mixed).clip(0, 255)
        return Applied(made)

    def _references(self) -> ReferenceSet:
        if self._reference_set is None:
            raise RuntimeError("color_transfer: load comes before draw; the references are not known yet")
        return self._reference_set
