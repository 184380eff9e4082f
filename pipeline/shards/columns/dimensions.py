"""Columns that hold the image's width and height: they are rewritten for the image that was made.

    a column named as                                       holding
    ──────────────────────────────────────────────────────  ────────────────────────────────────────────────────────
    `width`, `height`, `w`, `h`, `image_width`, `img_h`,    a number
    `width_px`, ...
    `size`, `image_size`, `shape`, `resolution`, ...        two numbers, width first or height first; or three, with
                                                            the channels last
    anything                                                a struct of `width`, `height` and others, but a box's

A value is rewritten if it equals the size of the source image, as stored or turned upright. Other values (the size of
a print, of a box) stay, and so do columns that `input.passthrough` names.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from pipeline.shards.columns.column_types import is_list, is_number, plain

Shape = tuple[int, int, int]
"""Height, width and channels of an image."""

_SCALAR: Final = re.compile(r"(?:(?:image|img|im|picture|pic|photo)_?)?(width|height|w|h)(?:_?(?:px|pixels))?")
_SEVERAL: Final = re.compile(r"(?:(?:image|img|im|picture|pic|photo)_?)?(?:size|shape|resolution|dims?|dimensions?)")
_SIZES: Final = ("width", "height")
_OTHER: Final = {"width": "height", "height": "width", "w": "h", "h": "w"}


@dataclass(frozen=True)
class Resized:
    """The shapes of one row's image: decoded and upright, and as it is written to the output."""

    source: Shape
    made: Shape


def dimension_columns(schema: pa.Schema, apart: Sequence[str | None]) -> tuple[str, ...]:
    """Return the columns that may hold the image's size, without those in `apart`."""
    return tuple(
        field.name
        for field in schema
        if field.name not in apart
        and (
            (_SCALAR.fullmatch(field.name.lower()) and is_number(field.type))
            or (_SEVERAL.fullmatch(field.name.lower()) and _is_several(field.type))
            or _is_struct_of_sizes(field.type)
        )
    )


def max_size(kind: pa.DataType) -> int | None:
    """Return the largest size that a column of this type can hold; None where any fits."""
    kind = plain(kind)
    if pa.types.is_integer(kind):
        return int(2 ** (kind.bit_width - pa.types.is_signed_integer(kind)) - 1)
    if pa.types.is_struct(kind):
        found = [max_size(kind.field(name).type) for name in _SIZES]
        return min((limit for limit in found if limit is not None), default=None)
    return max_size(kind.value_type) if hasattr(kind, "value_type") else None


def rewritten(columns: Mapping[str, pa.Array], made: Sequence[Resized]) -> dict[str, pa.Array]:
    """Return size columns with the sizes of the images that were made of their rows."""
    values = {name: _values(column) for name, column in columns.items()}
    found = {}
    for name, column in columns.items():
        beside = values.get(_partner(name, columns) or "", [None] * len(made))
        new = [_size(name, *each) for each in zip(values[name], beside, made, strict=True)]
        found[name] = column if new == values[name] else _with_values(column, new)
    return found


def _values(column: pa.Array) -> list[Any]:
    """Return the values of a column; of structs only the sizes, since Python may not be able to hold other fields."""
    if not pa.types.is_struct(column.type):
        return list(column.to_pylist())
    parts = [column.field(column.type.get_field_index(name)).to_pylist() for name in _SIZES]
    there = column.is_valid().to_pylist()
    return [
        dict(zip(_SIZES, cell, strict=True)) if is_there else None
        for is_there, *cell in zip(there, *parts, strict=True)
    ]


def _with_values(column: pa.Array, values: Sequence[Any]) -> pa.Array:
    """Return a column with new values; in structs only the sizes are new."""
    if not pa.types.is_struct(column.type):
        return pa.array(values, column.type)
    fields = [column.type.field(place) for place in range(column.type.num_fields)]
    parts = [column.field(place) for place in range(len(fields))]
    for place, (field, part) in enumerate(zip(fields, parts, strict=True)):
        if field.name in _SIZES:
            old = part.to_pylist()  # below a null, too, which a required field must have
            new = [before if cell is None else cell[field.name] for before, cell in zip(old, values, strict=True)]
            parts[place] = pa.array(new, field.type)
    return pa.StructArray.from_arrays(parts, fields=fields, mask=column.is_null())


def _size(name: str, value: Any, beside: Any, made: Resized) -> Any:
    """Return the value for the image that was made; `value` itself if it is not the size of the source.

    beside: the height in the same row if this is a width, and vice versa; None if there is none.
    """
    (height, width, _), (new_height, new_width, channels) = made.source, made.made
    if isinstance(value, Mapping):
        as_source = {value["width"], value["height"]} == {width, height}
        return {"width": new_width, "height": new_height} if as_source else value
    if isinstance(value, Sequence):
        if len(value) == 2:
            return _sizes(list(value), made)
        new = _sizes(list(value[:2]), made) if len(value) == 3 and value[2] == made.source[2] else None
        return value if new is None else [*new, channels]
    named = _SCALAR.fullmatch(name.lower())
    if named is None or value not in (height, width) or beside not in (None, width + height - value):
        return value
    return new_width if named[1] in ("width", "w") else new_height


def _sizes(value: list[Any], made: Resized) -> list[Any]:
    (height, width, _), (new_height, new_width, _) = made.source, made.made
    if value == [width, height]:
        return [new_width, new_height]
    return [new_height, new_width] if value == [height, width] else value


def _partner(name: str, columns: Mapping[str, Any]) -> str | None:
    """Return the column of heights beside one of widths, and the other way round."""
    named = _SCALAR.fullmatch(name.lower())
    if named is None:
        return None
    wanted = name.lower()[: named.start(1)] + _OTHER[named[1]] + name.lower()[named.end(1) :]
    return next((other for other in columns if other.lower() == wanted), None)


def _is_several(kind: pa.DataType) -> bool:
    return is_list(kind) and is_number(kind.value_type)


def _is_struct_of_sizes(kind: pa.DataType) -> bool:
    if not pa.types.is_struct(kind):
        return False
    names = [kind.field(i).name for i in range(kind.num_fields)]
    sizes = [name for name in _SIZES if names.count(name) == 1]
    corner = {"x", "y", "left", "top", "cx", "xmin"} & set(names)
    return len(sizes) == 2 and not corner and all(is_number(kind.field(name).type) for name in sizes)
