"""Refusal of annotations under operators that move pixels, since boxes and masks would no longer fit."""

from collections.abc import Sequence

from pipeline.errors import InputError, RecipeError
from pipeline.planning.input.first_rows import FirstRows
from pipeline.shards.columns.annotation_columns import annotation_columns
from pipeline.shards.columns.column_types import read_features
from pipeline.shards.columns.dimensions import dimension_columns, max_size
from pipeline.shards.columns.layout import Layout
from pipeline.shards.images.codecs import is_turned
from pipeline.validation import nearest
from schemas.recipe import Recipe

SHOWN = 5
"""Most columns that a message names."""
MAX_NAME = 40


def check_annotations(moving: Sequence[str], recipe: Recipe, first: FirstRows) -> tuple[str, ...]:
    """Check annotations; return a note if an image with annotations is stored rotated, since theirs is unknown.

    Args:
        moving: settings that move pixels of source rows, by position in the recipe: `recipe.output.size: ...`.

    Raises:
        RecipeError: pixels are moved, and the input has annotations that would no longer fit.
    """
    layout, passthrough = first.layout, recipe.input.passthrough
    for name in passthrough:
        if name not in layout.schema.names:
            raise InputError(
                f"input.passthrough: there is no column {name!r}{nearest(name, list(layout.schema.names))}"
            )
    turned = [
        row for row, image in zip(first.rows, first.images, strict=True) if image is not None and is_turned(image)
    ]
    from_rows = any(branch.per_class is None and branch.count is None for branch in recipe.branches)
    if not moving and not (turned and from_rows):
        return ()
    apart = (layout.image, layout.label, layout.id, *passthrough)
    found = annotation_columns(layout.schema, read_features(layout.schema), apart, first.values, first.sizes)
    if not found:
        return ()
    names = [f"{name[:MAX_NAME]} ({what})" for name, what in list(found.items())[:SHOWN]]
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    if moving:
        drop = ", ".join([*(name[:MAX_NAME] for name in list(found)[:SHOWN]), *(["..."] if more else [])])
        raise RecipeError(
            f"{moving[0]}, and {', '.join(names)}{more} would no longer fit; take that out, name in input.passthrough "
            f"what says nothing about places in the image, or leave out what you do not need by input.drop: [{drop}]"
        )
    return (
        f"row {turned[0].row} of {turned[0].uri} is stored turned, and is made upright; {', '.join(names)}{more} stay "
        "as they are, and must be of the upright image",
    )


def dimensions_of(layout: Layout, recipe: Recipe) -> tuple[str, ...]:
    """Return the columns that may hold the size of the image, and are rewritten with it."""
    return dimension_columns(layout.schema, (layout.image, layout.label, layout.id, *recipe.input.passthrough))


def check_dimensions(recipe: Recipe, first: FirstRows) -> None:
    """Raise RecipeError if a column of the image's width or height cannot hold `output.size`."""
    size, layout = recipe.output.size, first.layout
    for name in dimensions_of(layout, recipe):
        kind = layout.schema.field(name).type
        limit = max_size(kind)
        if isinstance(size, int) and limit is not None and size > limit:
            raise RecipeError(
                f"recipe.output.size: column {name!r} follows the image, and {kind} does not hold {size}; make it "
                f"wider, leave it out with input.drop: [{name}], or name it in input.passthrough"
            )
