"""Which column is the image, and how it stores images: by Hugging Face features, Arrow types, names and, if these
leave it open, the first values.

    tiers, in order                                                          preferred where a tier has several
    ───────────────────────────────────────────────────────────────────────  ──────────────────────────────────
    Hugging Face `Image` feature; struct<bytes, path>; binary, base64 text   `image`, then IMAGE_NAMES
    string named as in PATH_NAMES                                            `image`
    base64 text under any name                                               none

A list of one image a row, or of one text that is or names it, counts as that image; beside another column of bytes,
the recipe must say so. Columns named after something that is made of an image (`thumbnail`, `sha256`, `embedding`, ...)
are never taken unless the recipe names them, nor are masks, sound and video. A column that is by its name as likely the
image as the one that is taken, or likelier, but that cannot be read (several images a row, arrays of pixels, images
inside of other types), stops the run.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

import pyarrow as pa
import pyarrow.types as pt

from pipeline.errors import InputError
from pipeline.shards.columns.column_types import (
    is_binary,
    is_feature,
    is_image_struct,
    is_list,
    is_number,
    is_string,
    plain,
    shown_type,
)
from pipeline.shards.columns.first_values import FirstValues
from pipeline.shards.files.name_words import split_words
from pipeline.shards.images.text_images import image_in_text

ImageKind = Literal["bytes", "struct", "path", "text"]

IMAGE_NAMES: Final = ("image", "img", "jpg", "jpeg", "png", "picture", "photo", "bytes")
PATH_NAMES: Final = ("image", "images", "img", "path", "image_path", "file", "file_path", "filename", "file_name")
_IMAGE_WORDS: Final = frozenset((
    *IMAGE_NAMES, "images", "imgs", "pictures", "photos", "pixel", "pixels", "frame", "frames", "rgb", "webp",
))  # fmt: skip
_MADE_WORDS: Final = frozenset((
    "thumb", "thumbs", "thumbnail", "thumbnails", "preview", "previews", "icon", "hash", "phash", "dhash", "ahash",
    "blurhash", "thumbhash", "sha", "sha1", "sha256", "sha512", "md5", "crc", "crc32", "checksum", "digest", "etag",
    "embedding", "embeddings", "embed", "emb", "feature", "features", "vector", "latent", "latents", "mask", "masks",
    "audio", "video", "sound", "signature", "key", "uuid", "guid", "id", "ids", "wkb", "geometry", "geom", "depth",
    "size", "sizes", "shape", "dims", "width", "height", "box", "boxes", "bbox", "bboxes", "keypoints", "points",
    "landmarks", "polygon", "polygons", "segmentation", "mean", "std", "histogram", "caption", "tokens", "meta",
    "metadata", "info", "exif",
))  # fmt: skip
_TEXT_WORDS: Final = _IMAGE_WORDS | {"base64", "b64", "data", "content", "contents", "encoded", "blob", "uri", "str"}
_OTHER_MEDIA: Final = ("Audio", "Video", "Pdf", "Nifti")
_SEVERAL: Final = (
    "several images a row; make a row of each (pandas: df.explode('{name}'), Polars: df.explode('{name}'))"
)
_ARRAY: Final = "pixels as numbers; encode each image first (Pillow: Image.fromarray(pixels).save(file, 'PNG'))"
_STRUCT: Final = "a struct of other fields; keep a struct of bytes and path, or the bytes alone"
_NESTED: Final = "images inside of {kind}; keep a column of bytes, or of structs of bytes and path, one image a row"


def image_column(
    schema: pa.Schema, features: Mapping[str, Any], named: str | None, values: FirstValues, strict: bool
) -> str:
    """Return the image column.

    Raises:
        InputError: no column is the image, several may be, or (`strict`) a better candidate cannot be read.
    """
    if named is not None:
        return named
    fields = [field for field in schema if _may_be(field, features)]
    reasons = {field.name: _unreadable(field, features, values) for field in fields}
    unreadable = {name: reason for name, reason in reasons.items() if reason is not None}
    readable = [field for field in fields if field.name not in unreadable]
    chosen = _chosen([field for field in readable if not strict or _likeness(field.name) > 0], features, values)
    if chosen is None:
        raise _none_found(schema, [field for field in readable if _holds_bytes(field.type)], unreadable)
    if strict:
        _check_likelier(chosen, readable, unreadable)
        _check_list(schema.field(chosen), fields)
    return chosen


def image_kind(field: pa.Field, values: FirstValues) -> ImageKind:
    """Return how a column stores its images.

    Raises:
        InputError: it stores none, or several a row.
    """
    kind = _single(field.type)
    if is_image_struct(kind):
        found: ImageKind = "struct"
    elif is_binary(kind):
        found = "bytes"
    elif is_string(kind):
        found = "text" if _is_text_images(values(field.name)) else "path"
    else:
        remedy = "encode each image first" if _is_array(field.type) else "name another column"
        raise InputError(
            f"input.columns.image: column {field.name!r} is {shown_type(field.type)}; it must hold encoded images "
            f"(binary, or a struct of bytes and path), their base64 text, or their paths (string); {remedy}"
        )
    if is_list(field.type) and _longest(values(field.name)) > 1:
        raise InputError(f"input.columns.image: column {field.name!r} holds {_SEVERAL.format(name=field.name)}")
    return found


def _chosen(fields: Sequence[pa.Field], features: Mapping[str, Any], values: FirstValues) -> str | None:
    def is_bytes_or_text(field: pa.Field) -> bool:
        kind = _single(field.type)
        if is_binary(kind):
            return True
        likely = is_string(kind) and bool(_TEXT_WORDS & set(split_words(field.name)))
        return likely and _is_text_images(values(field.name))

    tiers: tuple[tuple[Callable[[pa.Field], bool], tuple[str, ...]], ...] = (
        (lambda field: is_feature(features.get(field.name), "Image"), IMAGE_NAMES),
        (lambda field: is_image_struct(_single(field.type)), IMAGE_NAMES),
        (is_bytes_or_text, IMAGE_NAMES),
        (lambda field: is_string(_single(field.type)) and field.name.lower() in PATH_NAMES, ()),
        (lambda field: is_string(_single(field.type)) and _is_text_images(values(field.name)), ()),
    )
    for accepts, names in tiers:
        found = one_of([field.name for field in fields if accepts(field)], (("image",), names), "image")
        if found is not None:
            return found
    return None


def _check_likelier(chosen: str, readable: Sequence[pa.Field], unreadable: Mapping[str, str]) -> None:
    """Raise InputError if another column is a better candidate than the chosen one."""
    mine = _likeness(chosen)
    for name, reason in unreadable.items():
        if _likeness(name) > mine or (_likeness(name) == mine == 1 and reason.startswith("several")):
            raise InputError(
                f"input.columns.image: column {name!r} looks like the image, and holds {reason}; or say "
                f"input.columns.image: {chosen} if that is it"
            )
    named = (*IMAGE_NAMES, "images")
    paths = [field.name for field in readable if is_string(_single(field.type)) and field.name.lower() in named]
    if paths and mine < 2 and chosen not in paths:
        raise InputError(
            f"input.columns.image: {chosen}, {', '.join(paths)} could each be the image; say which with "
            f"input.columns.image: {paths[0]}"
        )


def _check_list(chosen: pa.Field, fields: Sequence[pa.Field]) -> None:
    """Raise InputError where the chosen column is one of lists, and another holds bytes: the first rows may mislead."""
    beside = [field.name for field in fields if field.name != chosen.name and _holds_bytes(field.type)]
    if is_list(chosen.type) and beside:
        raise InputError(
            f"input.columns.image: column {chosen.name!r} holds lists of one image, and {beside[0]!r} holds bytes "
            f"beside it; say input.columns.image: {chosen.name}"
        )


def _none_found(schema: pa.Schema, made: Sequence[pa.Field], unreadable: Mapping[str, str]) -> InputError:
    likely = sorted(unreadable, key=lambda name: -_likeness(name))[:1]
    said = "".join(f"; {name!r} holds {unreadable[name]}" for name in likely)
    names = [field.name for field in made][:3]
    if names:
        said += f"; if {names[0]!r} is the image and not made of it, say input.columns.image: {names[0]}"
    texts = [field.name for field in schema if is_string(field.type) and _likeness(field.name) == 2]
    if texts and not said:
        said = f"; if {texts[0]!r} holds names of image files or their URLs, say input.columns.image: {texts[0]}"
    return InputError(
        "input.columns.image: no column looks like an image (an Image feature, a struct of bytes and path, binary, "
        f"base64 text, or a file name){said or '; name it'}. The columns are: {', '.join(schema.names)}"
    )


def _may_be(field: pa.Field, features: Mapping[str, Any]) -> bool:
    media = any(is_feature(features.get(field.name), kind) for kind in _OTHER_MEDIA)
    return "mask" not in field.name.lower() and not media


def _likeness(name: str) -> int:
    """Return how likely a name is the image's: 2 it has a word for images, 1 it has none, 0 it is of something else."""
    words = set(split_words(name))
    if words & _MADE_WORDS:
        return 0
    return 2 if words & _IMAGE_WORDS or name.lower() in IMAGE_NAMES else 1


def _unreadable(field: pa.Field, features: Mapping[str, Any], values: FirstValues) -> str | None:
    """Return why a column that seems to hold images cannot be read; None if it can be, or holds none."""
    kind, feature, likely = field.type, features.get(field.name), _likeness(field.name) == 2
    if _likeness(field.name) == 0:
        return None
    single = _single(kind)
    if is_list(kind) and (is_image_struct(single) or is_binary(single) or is_string(single)):
        several = _longest(values(field.name)) > 1 and (not is_string(single) or _is_text_images(values(field.name)))
        return _SEVERAL.format(name=field.name) if several else None
    if any(is_feature(feature, f"Array{axes}D") for axes in (2, 3, 4, 5)) or _is_tensor(kind):
        return _ARRAY
    if _is_array(kind) and (likely or _is_bytes_array(kind)):
        return _ARRAY
    if likely and ((is_list(kind) and is_number(kind.value_type)) or pt.is_fixed_size_binary(kind)):
        return _ARRAY
    if pt.is_struct(kind) and not is_image_struct(kind) and (_holds_bytes(kind) or (likely and _holds_more(kind))):
        parts = {kind.field(place).name.lower() for place in range(kind.num_fields)}
        if parts & {"array", "pixels", "values"}:
            return _ARRAY
        return _STRUCT
    if likely and (is_list(kind) or pt.is_map(kind)) and not is_string(single):
        return _NESTED.format(kind=shown_type(kind))
    return None


def _single(kind: pa.DataType) -> pa.DataType:
    """Return the item type of a list of images or texts; otherwise the type itself."""
    item = plain(kind.value_type) if is_list(kind) else plain(kind)
    return item if is_image_struct(item) or is_binary(item) or is_string(item) else kind


def _holds_bytes(kind: pa.DataType) -> bool:
    if is_binary(plain(kind)):
        return True
    return pt.is_struct(kind) and any(is_binary(kind.field(place).type) for place in range(kind.num_fields))


def _holds_more(kind: pa.DataType) -> bool:
    """Return whether a struct holds anything but numbers."""
    return not all(is_number(kind.field(place).type) for place in range(kind.num_fields))


def _is_tensor(kind: pa.DataType) -> bool:
    shape = getattr(kind, "shape", None) if isinstance(kind, pa.BaseExtensionType) else None
    return shape is not None and len(shape) > 1


def _is_array(kind: pa.DataType) -> bool:
    """Return whether a type is an array of numbers with two axes or more."""
    if _is_tensor(kind):
        return True
    if not is_list(kind) or not is_list(kind.value_type):
        return False
    inner = kind.value_type.value_type
    return is_number(inner) or is_list(inner)


def _is_bytes_array(kind: pa.DataType) -> bool:
    while is_list(kind):
        kind = kind.value_type
    return bool(pt.is_uint8(kind))


def _longest(values: Sequence[Any]) -> int:
    return max((len(value) for value in values), default=0)


def _is_text_images(values: Sequence[Any]) -> bool:
    """Return whether values, or the items of lists, are images as text, all that are not blank."""
    items = [item for value in values for item in (value if isinstance(value, list) else [value])]
    texts = [item for item in items if isinstance(item, str) and item.strip()]
    return bool(texts) and all(image_in_text(text) is not None for text in texts)


def one_of(candidates: list[str], preferred: Sequence[tuple[str, ...]], role: str) -> str | None:
    """Return the only candidate, or the only one with a preferred name; None without candidates.

    Raises:
        InputError: several are left; it asks for the name.
    """
    for names in preferred:
        if len(candidates) > 1:
            candidates = [name for name in candidates if name.lower() in names] or candidates
    if len(candidates) > 1:
        raise InputError(
            f"input.columns.{role}: {', '.join(candidates)} could each be the {role}; say which with "
            f"input.columns.{role}: {candidates[0]}"
        )
    return candidates[0] if candidates else None
