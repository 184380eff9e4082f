"""The domain of an embedded model: other images are refused, unless the recipe says `force: true`.

The domain is in `pipeline/assets/models/NAME.json`: `what` the images show, their `channels`, and the smallest and
largest side in pixels, `side_px`. Models of the user have no domain.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.contracts import Part
from pipeline.errors import RecipeError, RowError
from pipeline.model_files.references import ASSETS, FileRef
from pipeline.planning.input.first_rows import FirstRows
from pipeline.shards.images.codecs import decode
from schemas.recipe import Recipe

GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N")
"""Modes of Pillow without colour."""


@dataclass(frozen=True)
class Domain:
    """The images that a model was trained for."""

    what: str
    channels: int
    side_px: tuple[int, int]


def domain_of(model: FileRef) -> Domain | None:
    """Return the domain of an embedded model; None if it has none, and for every other model."""
    path = ASSETS / "models" / f"{model.reference.removeprefix('builtin:')}.json"
    if not model.reference.startswith("builtin:") or not path.is_file():
        return None
    stated = json.loads(path.read_text(encoding="utf-8"))
    return Domain(stated["what"], stated["channels"], tuple(stated["side_px"]))


def check_domains(part: Part, models: Mapping[str, FileRef], where: str, recipe: Recipe, first: FirstRows) -> None:
    """Raise RecipeError if the images of the input are outside the domain of a model."""
    if getattr(part.params, "force", False):
        return
    for field, model in models.items():
        domain = domain_of(model)
        if domain is None:
            continue
        for place in range(len(first.rows)):
            found = _outside(domain, place, recipe, first)
            if found is not None:
                raise RecipeError(
                    f"{where}: {model.reference} was made for {domain.what}, and row {first.rows[place].row} of the "
                    f"input is {found}; give it a {field} of such images, or run it all the same with force: true"
                )


def _outside(domain: Domain, place: int, recipe: Recipe, first: FirstRows) -> str | None:
    """Return what a row's image is, if it is outside the domain; None if it is inside or cannot be read."""
    image, row = first.images[place], first.rows[place]
    if image is None or row.data is None:
        return None
    size = recipe.output.size
    width, height = image.size if size == "source" else (size, size)
    lower, upper = domain.side_px
    fits = lower <= min(width, height) and max(width, height) <= upper
    grey = image.mode in GREY or (fits and domain.channels == 1 and _is_grey(row.data, recipe))
    if fits and (domain.channels == 3 or grey):
        return None
    return f"{width} x {height} pixels, {'grey' if grey else 'colour'}"


def _is_grey(data: bytes, recipe: Recipe) -> bool:
    """Return whether an image of a colour mode has only grey pixels."""
    try:
        pixels: Any = decode(data, recipe.input.max_pixels, recipe.input.bit_depth)
    except RowError:
        return True  # it goes to quarantine, and says nothing of the others
    return bool(np.ptp(pixels, axis=2).max() <= 2)
