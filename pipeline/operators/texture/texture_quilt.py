"""Rebuild an image from blocks of a texture: image quilting and texture transfer (Efros & Freeman 2001)."""

from typing import Any, Literal

import numpy as np
from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from pipeline.algorithms.quilting import Quilting, TextureTable, luma_levels, match_luma_span, quilt
from pipeline.contracts import Applied, Assets, Draws, ImageBatch, Operator, Parameters, Pixels, Requirements
from pipeline.errors import JobError
from pipeline.noise import Noise
from pipeline.operators.bases.reference_set import ReferenceSet
from pipeline.seeding import generators
from pipeline.validation import ShareRange

SEEDS = 1 << 32


class TextureQuiltParams(Parameters):
    """Which textures, cut into which blocks, and how closely they follow the image."""

    mode: Literal["transfer", "synthesis"] = Field(
        "transfer",
        description="transfer: the texture follows the image's luma; synthesis: texture alone, the image's content and "
        "with it the meaning of its label are gone",
    )
    textures: str = Field("builtin:styles", description="texture images: folder, glob, Parquet set or builtin:styles")
    texture_size_px: int = Field(128, ge=16, le=1024, description="short side that textures are resized to")
    block_px: int = Field(6, ge=4, le=64, description="side of the blocks that are laid; 4 to 6 at 28 px")
    overlap_px: int = Field(
        2, ge=1, le=32, validate_default=True, description="overlap of neighbours, at most half a block"
    )
    alpha_range: ShareRange = Field(
        (0.1, 0.4),
        description="weight of a smooth texture against likeness to the image, drawn evenly for each image; "
        "transfer alone: synthesis has 1",
    )
    candidates: int = Field(64, ge=1, le=512, description="random places of the texture that each block chooses from")
    passes: int = Field(
        1, ge=1, le=5, description="passes, each with blocks a third smaller; alpha grows from 0.1 to the drawn one"
    )
    match_luma: bool = Field(True, description="first move the range of the image's luma to that of the texture's")

    @field_validator("overlap_px")
    @classmethod
    def _within(cls, value: int, info: ValidationInfo) -> int:
        block = info.data.get("block_px")
        if block is not None and value > block // 2:
            raise PydanticCustomError(
                "overlap_px", "needs at most half of block_px, {limit}; make it smaller", {"limit": block // 2}
            )
        return value

    @field_validator("block_px")
    @classmethod
    def _cut(cls, value: int, info: ValidationInfo) -> int:
        size = info.data.get("texture_size_px")
        if size is not None and value > size:
            raise PydanticCustomError(
                "block_px", "needs at most texture_size_px, {limit}; make it smaller", {"limit": size}
            )
        return value


class TextureQuilt(Operator):
    """Lay blocks of a drawn texture over images: [N, H, W, C] uint8 -> the same shape, channels as they were.

    Every pixel comes from the texture; for grey images (C = 1) it is the texture's luma, stretched to 0..255. Images
    smaller than a block are laid with one block and cut. Mode `synthesis` is not safe for the label. Draws `texture`
    (first 16 hex digits of its sha256), `texture_name`, `alpha` and `seed`, of which all positions are drawn; the
    texture is also a partner, with role `style`. `load` raises JobError where there is no texture or one that is no
    image, `apply` where the batch has no images.
    """

    name = "texture_quilt"
    version = 1
    source = "Efros & Freeman 2001, Image Quilting for Texture Synthesis and Transfer, sections 2 and 4"
    Params = TextureQuiltParams
    micro_batch = 32
    geometric = True  # what is left of an object follows its luma, not its outline
    uses_torch = False
    cpu_s_per_megapixel = 5.0
    params: TextureQuiltParams

    def __init__(self, params: TextureQuiltParams) -> None:
        super().__init__(params)
        self._reference_set: ReferenceSet | None = None
        self._tables: dict[int, TextureTable] = {}

    def requirements(self) -> Requirements:
        """The textures."""
        return Requirements(images={"textures": self.params.textures})

    def load(self, device: str, assets: Assets) -> None:  # noqa: ARG002 - NumPy on any device
        """Read and resize each texture once, in colour and in grey."""
        from pipeline.shards.images.codecs import decode

        value = self.params.textures
        reference_set = ReferenceSet("texture_quilt.textures", value, assets.images["textures"], "texture")
        images = [self._resized(reference_set.pixels(place, decode)) for place in range(len(reference_set))]
        colours = [np.array(np.broadcast_to(image, (*image.shape[:2], 3))) for image in images]
        greys = [match_luma_span(luma_levels(image), (0, 255))[..., None] for image in images]
        self._tables = {3: TextureTable(colours), 1: TextureTable(greys)}
        self._reference_set = reference_set

    def draw(self, batch: ImageBatch) -> Draws:
        """A texture, its weight, and the seed of all positions, of every sample."""
        reference_set = self._textures()
        places, alphas, seeds = [], [], []
        for generator in generators(batch.seeds):
            places.append(reference_set.draw(generator))
            share = float(generator.uniform(*self.params.alpha_range))
            alphas.append(share if self.params.mode == "transfer" else 1.0)
            seeds.append(int(generator.integers(SEEDS)))
        columns: dict[str, list[Any]] = {
            "texture": [reference_set.keys[place] for place in places],
            "texture_name": [reference_set.names[place] for place in places],
            "alpha": alphas,
            "seed": seeds,
        }
        return Draws(columns, partners=[[reference_set.partners[place]] for place in places])

    def apply(self, batch: ImageBatch, draws: Draws, noise: Noise) -> Applied:  # noqa: ARG002 - nothing to add
        """Quilt the batch, as many images together as fit the caches."""
        if batch.images is None:
            raise JobError("texture_quilt: there are no images to quilt; put it after an operator that makes some")
        reference_set, table = self._textures(), self._tables[batch.images.shape[3]]
        chosen = np.array([reference_set.place(key) for key in draws.columns["texture"]])
        guides = np.stack([luma_levels(image) for image in batch.images])  # [N, H, W]
        if self.params.match_luma:
            for index, place in enumerate(chosen):
                guides[index] = match_luma_span(guides[index], table.spans[place])
        how = Quilting(self.params.block_px, self.params.overlap_px, self.params.candidates, self.params.passes)
        alpha = np.array(draws.columns["alpha"], dtype=np.float64)
        return Applied(quilt(table, chosen, guides, alpha, draws.columns["seed"], how))

    def _textures(self) -> ReferenceSet:
        if self._reference_set is None:
            raise RuntimeError("texture_quilt: load comes before draw; the textures are not known yet")
        return self._reference_set

    def _resized(self, pixels: Pixels) -> Pixels:
        """Return a texture [h, w, C] whose short side is `texture_size_px`."""
        height, width, channels = pixels.shape
        scale = self.params.texture_size_px / min(height, width)
        size = (round(width * scale), round(height * scale))
        from PIL import Image

        image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels).resize(size, Image.Resampling.LANCZOS)
        return np.asarray(image).reshape(size[1], size[0], channels)
