"""Checks of the first images and their columns: annotations, model domains, sizes and bit depth."""

from collections.abc import Mapping, Sequence

from pipeline.errors import RecipeError
from pipeline.model_files.references import FileRef
from pipeline.planning.input.annotation_checks import check_annotations, check_dimensions
from pipeline.planning.input.first_rows import FirstRows
from pipeline.planning.input.model_domains import check_domains
from pipeline.planning.parts import read_part
from pipeline.registry import OPERATOR
from schemas.recipe import Recipe


def check_images(
    recipe: Recipe, models: Sequence[Sequence[Mapping[str, FileRef]]], first: FirstRows
) -> tuple[str, ...]:
    """Check the first images; return notes on what cannot be decided.

    Args:
        models: of every step of every branch, in the order of the recipe.

    Raises:
        JobError: annotations would no longer fit, images are outside a model's domain, or a bit depth is unknown.
    """
    if recipe.input.reduced_decode and recipe.output.size == "source":
        raise RecipeError(
            "recipe.input.reduced_decode: it decodes images for a smaller output.size, and that is `source`; say a "
            "size in pixels, or leave it out"
        )
    moving = []
    for index, branch in enumerate(recipe.branches):
        from_rows = branch.per_class is None and branch.count is None
        for place, entry in enumerate(branch.operators):
            where = f"recipe.branches[{index}].operators[{place}]"
            operator = read_part(entry, where, OPERATOR)[0]
            if operator.geometric and from_rows:
                moving.append(f"{where}: {operator.name} moves pixels")
            check_domains(operator, models[index][place], f"{where}.{operator.name}", recipe, first)
        if recipe.output.size != "source" and from_rows:
            moving.append("recipe.output.size: it changes the size of the images")
    notes = check_annotations(moving, recipe, first)
    check_dimensions(recipe, first)
    first.check_bit_depth(recipe.input.bit_depth)
    return notes
