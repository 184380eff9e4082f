"""What every unit's digest contains beside its branch and rows: settings that change the bytes of the output."""

from typing import Any

from pipeline.planning.input.annotation_checks import dimensions_of
from pipeline.shards.columns.class_metadata import CLASS_LABEL
from pipeline.shards.columns.layout import Layout
from pipeline.shards.images.codecs import DECODER, PNG_ENCODER, REDUCED_DECODER
from schemas.recipe import MAX_IMAGE_BYTES, Numerics, Recipe


def common_digest_inputs(recipe: Recipe, layout: Layout, key_id: str | None) -> list[Any]:
    """Return the settings that every unit's bytes depend on, for its digest."""
    output = recipe.output
    named = layout.class_source not in (None, CLASS_LABEL) and layout.table.kind != "text"
    names = [list(layout.classes or ())] if named else []  # a ClassLabel is in the shard's digest, a text in its row
    quality = None if output.encoding == "png" else output.quality
    return [
        "unit/3",
        recipe.seed,
        [
            layout.image,
            layout.label,
            layout.id,
            list(recipe.input.drop),
            recipe.input.max_pixels,
            *names,
            *_links(recipe),
        ],
        [DECODER, recipe.input.bit_depth, list(dimensions_of(layout, recipe)), *_reduced(recipe)],
        [PNG_ENCODER if output.encoding == "png" else output.encoding, quality, output.size, output.channels],
        "none" if recipe.watermark == "none" else [recipe.watermark.model_dump(), key_id],
        _numerics_identity(recipe.numerics),
    ]


def _reduced(recipe: Recipe) -> list[str]:
    return [REDUCED_DECODER] if recipe.input.reduced_decode else []


def _links(recipe: Recipe) -> list[Any]:
    """Return the settings that decide which linked images are opened; empty if the recipe has none."""
    given = recipe.input
    said = given.allow_paths or given.allow_urls or given.max_image_bytes != MAX_IMAGE_BYTES
    return [[list(given.allow_paths), list(given.allow_urls), given.max_image_bytes]] if said else []


def _numerics_identity(numerics: Numerics) -> Any:
    """Return the numeric settings. Keys of later versions appear only if not default, so that old digests stay."""
    found: list[Any] = [] if numerics.dtype == "float32" else [numerics.dtype]
    found += ["tf32"] if numerics.tf32 else []
    return [numerics.threads, *found] if found else numerics.threads
