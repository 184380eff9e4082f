"""Where training images come from: the part of a trainer's configuration that names them, and their loading."""

from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt

from jobs.train.config import Closed
from jobs.train.images import ImageSet, draw_textures, load_images

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


class Phase(Closed):
    """Budget of one phase: it ends at the earlier of steps and seconds."""

    steps: PositiveInt
    seconds: PositiveFloat
    learning_rate: PositiveFloat
    checkpoint_seconds: PositiveFloat = 60.0
    progress_steps: PositiveInt = 20
    grid_steps: PositiveInt = 200


class DecoderPhase(Phase):
    """How the decoder is trained: content + style_weight * style, pixel_weight * pixels where the style is its own."""

    batch_px: PositiveInt = 65536
    max_batch: PositiveInt = 32
    style_sizes_px: tuple[PositiveInt, ...] = (64, 96, 128)
    recolour: float = Field(0.7, ge=0, le=1)
    identity_share: float = Field(0.2, ge=0, le=1)
    content_weight: float = Field(1.0, ge=0)
    style_weight: float = Field(10.0, ge=0)
    pixel_weight: float = Field(3.0, ge=0)
    average_decay: float = Field(0.999, ge=0, lt=1)


def load_sources(sources: list[Source], seed: int) -> dict[str, ImageSet]:
    """Each source's images by its name; textures are drawn. Raises InputError where a uri holds no images."""
    held = {}
    for source in sources:
        if source.uri == TEXTURES:
            held[source.name] = draw_textures(source.limit or 1200, source.size_px, seed)
        else:
            held[source.name] = load_images(source.uri, source.size_px, source.limit)
    return held
