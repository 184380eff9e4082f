"""Reading an operator or a gate from its entry in a recipe, and finding and hashing the files it requires."""

from collections.abc import Mapping
from typing import Any, TypeVar

import pyarrow as pa

from pipeline.contracts import Assets, Part
from pipeline.errors import InputError, JobError, RecipeError
from pipeline.messages import error_line, listed
from pipeline.model_files.references import local_file, resolve_model
from pipeline.packages import Package
from pipeline.plan import Images, Models
from pipeline.planning.reference_images import find_images, read_images
from pipeline.registry import Kind, find_part
from pipeline.shards.columns.layout import Layout
from pipeline.validation import nearest, parse

TEXT_FIELDS = ("prompt", "negative_prompt", "clip_prompt")
"""Parameters whose columns are used in texts; columns of all other parameters hold masks."""

P = TypeVar("P", bound=Part)


def read_part(entry: Mapping[str, Any], where: str, kind: Kind[P]) -> tuple[P, Package | None]:
    """Return the part that an entry `{name: {parameters}}` asks for, not loaded, and its package; None if built in.

    Args:
        where: the position of the entry in the recipe, for messages.

    Raises:
        RecipeError: the entry has not one name, the name or a parameter is unknown, or the class cannot be made.
    """
    if len(entry) != 1:
        raise RecipeError(f"{where}: write one {kind.noun} an entry, as `- {{name: {{...}}}}`; found {sorted(entry)}")
    ((name, params),) = entry.items()
    try:
        found, package = find_part(kind, name)
    except RecipeError as error:
        raise RecipeError(f"{where}: {error}") from None
    given = parse(found.Params, {} if params is None else params, f"{where}.{name}")
    try:
        part = found(given)
        part.requirements()
    except JobError:
        raise
    except Exception as error:  # code of others
        raise RecipeError(f"{where}.{name}: it cannot be made of these parameters: {error_line(error)}") from error
    return part, package


def find_files(part: Part, base: str) -> tuple[Models, Images]:
    """Return the models and reference images that are required, by parameter; relative paths start at `base`.

    Raises:
        ModelError: a model is not there.
        InputError: a reference set is empty.
    """
    requirements = part.requirements()
    models = {key: resolve_model(reference, base) for key, reference in requirements.models.items()}
    return models, {key: find_images(reference, base) for key, reference in requirements.images.items()}


def check_columns(part: Part, layout: Layout | None, where: str) -> None:
    """Raise InputError if a required column does not exist; `layout` is None for a branch without source rows."""
    for field, names in part.requirements().columns.items():
        for name in names:
            if layout is None:
                raise InputError(f"{where}.{field}: there is no column {name!r}: this branch has no source rows")
            if name in layout.light:
                _check_text(field, name, layout, where)
                continue
            if name in layout.schema.names:
                raise InputError(
                    f"{where}.{field}: column {name!r} holds binary data, which is read only as masks, and those need "
                    "`mask` in the column's name"
                )
            raise InputError(f"{where}.{field}: there is no column {name!r}{nearest(name, list(layout.light))}")


def _check_text(field: str, name: str, layout: Layout, where: str) -> None:
    """Raise InputError if a text uses a column of lists, of nulls, or of class indexes that have names."""
    if field not in TEXT_FIELDS:
        return
    if name == layout.label and layout.classes and layout.table.kind != "text":
        raise InputError(
            f"{where}.{field}: column {name!r} holds numbers of classes, and {{{name}}} would be such a number; write "
            "{label} for the name of the class"
        )
    kind = layout.schema.field(name).type
    if pa.types.is_nested(kind) or pa.types.is_null(kind):
        raise InputError(
            f"{where}.{field}: column {name!r} is {listed([kind])}, and {{{name}}} needs one text a row; write one "
            "to a column of its own"
        )


def read_assets(models: Models, images: Images) -> Assets:
    """Return the files that `find_files` found, read from disk.

    Raises:
        ModelError: a model is not there any more.
        InputError: an image is not the planned one any more.
    """
    return Assets(
        models={name: local_file(model) for name, model in models.items()},
        images={name: tuple(read_images(some)) for name, some in images.items()},
    )
