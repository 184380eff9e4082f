"""Synthesise a region of an image from the texture of the rest: non-parametric sampling (Efros & Leung 1999)."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, ValidationInfo, field_validator

from pipeline.algorithms.texture_sampling import Sampling, resynthesise
from pipeline.contracts import Applied, Draws, ImageBatch, Operator, Parameters, Pixels
from pipeline.errors import JobError
from pipeline.noise import Noise
from pipeline.seeding import generators
from pipeline.validation import ShareRange

SEEDS = 1 << 32
HOLE_SHARES = {"fill": (0.05, 0.2), "grow": (0.5, 0.75)}


class TextureSynthesisParams(Parameters):
    """Which part of an image is made anew, and how its pixels are chosen."""

    renamed: ClassVar[Mapping[str, str]] = {"most_pixels": "max_pixels"}

    mode: Literal["fill", "grow"] = Field(
        "fill",
        description="fill: a square hole is made from the rest; grow: all around a rectangle is made from that "
        "rectangle, and what the label names may be gone",
    )
    hole_share_range: ShareRange | None = Field(
        None,
        validate_default=True,
        description="share of the image made anew, drawn evenly; default: fill 0.05 to 0.2, grow 0.5 to 0.75",
    )
    window_px: int = Field(7, ge=3, le=31, description="side of the neighbourhoods that are compared, odd")
    error_threshold: float = Field(
        0.1, ge=0, le=10, description="a neighbourhood is drawn from those at most this share worse than the nearest"
    )
    candidates: int = Field(1024, ge=1, le=65_536, description="most neighbourhoods compared; of more, this many drawn")
    max_pixels: int = Field(
        1024, ge=1, le=1_000_000, description="most pixels made anew in an image; a larger hole is made smaller"
    )

    @field_validator("hole_share_range")
    @classmethod
    def _by_mode(cls, value: ShareRange | None, info: ValidationInfo) -> ShareRange | None:
        return HOLE_SHARES.get(info.data.get("mode", "")) if value is None else value

    @field_validator("window_px")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("needs an odd number, so that a window has a centre")
        return value


class TextureSynthesis(Operator):
    """Make a region of images anew from their own texture: [N, H, W, C] uint8 -> the same shape.

    Mode `fill`: a square hole, from the rest of the image. Mode `grow`: everything around a rectangle of the image's
    proportions, from that rectangle alone; not safe for the label. A hole is at least one pixel and never the whole
    image, so an image of one pixel comes back as it is; windows shrink where the image, or what is left of it, is
    smaller. Draws `top`, `left`, `height`, `width` in px (of the hole, or of the rectangle that stays) and `seed`, of
    which all pixels are drawn. Raises JobError where the batch has no images.
    """

    name = "texture_synthesis"
    version = 1
    source = "Efros & Leung 1999, Texture Synthesis by Non-parametric Sampling, section 2"
    Params = TextureSynthesisParams
    micro_batch = 32
    geometric = True  # a box may no longer hold its object
    uses_torch = False
    cpu_s_per_megapixel = 6.0
    params: TextureSynthesisParams

    def draw(self, batch: ImageBatch) -> Draws:
        """The region, and the seed of all pixels, of every sample; depends on the seeds and on the size."""
        height, width = _images(batch).shape[1:3]
        regions, seeds = [], []
        for generator in generators(batch.seeds):
            share = float(generator.uniform(*self.params.hole_share_range or (0.0, 0.0)))
            region = _hole if self.params.mode == "fill" else _patch
            tall, wide = region(height, width, share, self.params.max_pixels)
            top, left = (int(generator.integers(spare + 1)) for spare in (height - tall, width - wide))
            regions.append((top, left, tall, wide))
            seeds.append(int(generator.integers(SEEDS)))
        names = ("top", "left", "height", "width")
        columns: dict[str, list[Any]] = {name: [row[place] for row in regions] for place, name in enumerate(names)}
        return Draws({**columns, "seed": seeds})

    def apply(self, batch: ImageBatch, draws: Draws, noise: Noise) -> Applied:  # noqa: ARG002 - nothing to add
        """Make each image's region anew, one image at a time."""
        images = _images(batch)
        how = Sampling(self.params.window_px, self.params.error_threshold, self.params.candidates)
        made = np.array(images, order="C")
        for index, image in enumerate(images):
            row = draws.row(index)
            inside = np.zeros(image.shape[:2], dtype=bool)
            inside[row["top"] : row["top"] + row["height"], row["left"] : row["left"] + row["width"]] = True
            known = inside if self.params.mode == "grow" else ~inside
            if not known.all():
                made[index] = resynthesise(image, known, generators([row["seed"]])[0], how)
        return Applied(made)


def _hole(height: int, width: int, share: float, max_pixels: int) -> tuple[int, int]:
    """Return height and width of a square of this share of an image: at least 1 px, never all of the image."""
    side = min(round(math.sqrt(share * height * width)), height, width, math.isqrt(max_pixels))
    side = max(1, side)
    if side * side == height * width:
        side -= 1
    return side, side


def _patch(height: int, width: int, share: float, max_pixels: int) -> tuple[int, int]:
    """Return height and width of what stays of an image of which this share, at most `max_pixels`, is made anew."""
    stays = max(1 - share, 1 - max_pixels / (height * width))
    scale = math.sqrt(max(0.0, stays))
    return max(1, math.ceil(height * scale)), max(1, math.ceil(width * scale))


def _images(batch: ImageBatch) -> Pixels:
    if batch.images is None:
        raise JobError("texture_synthesis: there are no images to change; put it after an operator that makes some")
    return batch.images
