"""Where training images come from: the part of a trainer's configuration that names them, and their loading."""

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, PositiveFloat, PositiveInt, field_validator
from torch import Tensor

from jobs.train.data.images import ImageSet, Rng, draw_textures, load_images, random_crops
from jobs.train.data.references import absolute_reference
from jobs.train.loop import harness
from jobs.train.loop.config import Closed

TEXTURES = "textures"  # as a uri: drawn by rule, `limit` of them
Scale = Annotated[float, Field(gt=0, le=2)]


class Source(Closed):
    """One set of images, and the part it plays in each phase."""

    name: str
    uri: str
    size_px: PositiveInt
    limit: PositiveInt | None = None
    content_share: float = Field(0.0, ge=0)
    content_crops_px: tuple[PositiveInt, ...] = (64,)
    content_scale_range: tuple[Scale, Scale] = (0.5, 1.0)
    style_share: float = Field(0.0, ge=0)
    style_scale_range: tuple[Scale, Scale] = (0.5, 1.0)

    @field_validator("uri")
    @classmethod
    def _anywhere(cls, value: str) -> str:
        return value if value == TEXTURES else absolute_reference(value)


class Phase(Closed):
    """Budget of one phase: it ends at the earlier of steps and seconds."""

    renamed: ClassVar[Mapping[str, str]] = {"progress_steps": "logging_steps"}

    steps: PositiveInt
    seconds: PositiveFloat
    learning_rate: PositiveFloat
    checkpoint_seconds: PositiveFloat = 60.0
    logging_steps: PositiveInt = 20
    grid_steps: PositiveInt = 200

    def budget(self, threads: int) -> harness.Budget:
        """What the harness is to keep to."""
        return harness.Budget(
            self.steps, self.seconds, self.checkpoint_seconds, self.logging_steps, self.grid_steps, threads
        )


class DecoderPhase(Phase):
    """How the decoder is trained: content + style_weight * style, pixel_weight * pixels where the style is its own."""

    renamed: ClassVar[Mapping[str, str]] = {"max_batch": "max_batch_size", "average_decay": "ema_decay"}

    batch_px: PositiveInt = 65536
    max_batch_size: PositiveInt = 32
    style_sizes_px: tuple[PositiveInt, ...] = (64, 96, 128)
    recolour: float = Field(0.7, ge=0, le=1)
    identity_share: float = Field(0.2, ge=0, le=1)
    content_weight: float = Field(1.0, ge=0)
    style_weight: float = Field(10.0, ge=0)
    pixel_weight: float = Field(3.0, ge=0)
    ema_decay: float = Field(0.999, ge=0, lt=1)


def load_sources(sources: list[Source], seed: int) -> dict[str, ImageSet]:
    """Each source's images by its name; textures are drawn. Raises InputError where a uri holds no images."""
    held = {}
    for source in sources:
        if source.uri == TEXTURES:
            held[source.name] = draw_textures(source.limit or 1200, source.size_px, seed)
        else:
            held[source.name] = load_images(source.uri, source.size_px, source.limit)
    return held


def check_sources(sources: Sequence[Source], seed: int) -> None:
    """Raise InputError where a source holds no images, before workers start: theirs would be a long traceback."""
    load_sources([source.model_copy(update={"limit": 1}) for source in sources], seed)


def content_crops(
    sources: Sequence[Source], sets: Mapping[str, ImageSet], rng: Rng, batch_px: int, max_batch_size: int
) -> Tensor:
    """A batch of content [n, 3, S, S] in [0, 1]: one source, drawn by its share, and one of its crop sizes S.

    n: as many as have `batch_px` pixels together, from 2 to `max_batch_size`.
    """
    shares = np.array([source.content_share for source in sources])
    source = sources[rng.choice(len(shares), p=shares / shares.sum())]
    held = sets[source.name]
    crop_px = int(rng.choice(source.content_crops_px))
    count = min(max(batch_px // crop_px**2, 2), max_batch_size)
    rows = rng.integers(0, len(held.pixels), count)
    return random_crops(held.take(rows), crop_px, rng, source.content_scale_range)


def shown(sources: Sequence[Source], sets: Mapping[str, ImageSet], rng: Rng, count: int, size_px: int) -> Tensor:
    """`count` whole images [count, 3, size_px, size_px] in [0, 1] for a sample sheet, from the sources in turn."""
    picked = []
    for index in range(count):
        held = sets[sources[index % len(sources)].name]
        image = held.take(rng.integers(0, len(held.pixels), 1))
        picked.append(F.interpolate(image, size=(size_px, size_px), mode="bilinear", antialias=True))
    return torch.cat(picked).clamp(0, 1)
