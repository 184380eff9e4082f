"""Annotation columns: positions in the image (boxes, points, masks), which no longer fit once pixels have moved.

A column is recognised by its type, by its name, and if both leave it open by the values of the first rows.

    what it holds                                       an annotation
    ──────────────────────────────────────────────────  ────────────────────────────────────────────────────────────
    images beside the image (`Image` feature, struct    always; binary where the first rows hold images, or its name
    of bytes and path, lists of these; binary; text)    is one of a map or mask; text where it is an image in base64
    numbers in lists of lists, tensors; truth values    by its values: boxes and points (rows of 2 to 6), polygons, maps
    numbers in one list; truth values                   by its name; or where each is a box, pixels, or a map of its
                                                        image, but for lists named as others are (ids, votes, ratings)
    numbers alone                                       `xmin`, `max_y`, `bbox_w`, `landmark_7`; pairs such as `x1` and
                                                        `y1`, `nose_x` and `nose_y`, `crop_left` and `crop_top`; a size
                                                        beside the one corner of a box; not `x` and `y` far outside of
                                                        every image (a map's)
    structs, and lists of these                         where a field is one; run lengths (`counts` and `size`)
    text                                                by its name; files of maps and masks; JSON, XML, lists as Python
                                                        and NumPy print them, or numbers, that hold boxes or polygons

A recipe that knows better names the column in `input.passthrough`. The image's own size (`width`, `height`) is no
annotation: it is rewritten, see `pipeline.shards.columns.dimensions`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from pipeline.shards.columns.column_types import (
    is_binary,
    is_feature,
    is_image_struct,
    is_list,
    is_number,
    is_string,
    plain,
    storage,
)
from pipeline.shards.columns.coordinates import (
    Seen,
    Size,
    are_coordinates,
    are_flat_maps,
    are_outside,
    are_points,
    text_has_coordinates,
)
from pipeline.shards.images.formats import is_image

IMAGES: Final = "images"
COORDINATES: Final = "boxes, points or masks"

# Words of a column's name that make its lists, structs or binary values an annotation.
_WORDS: Final = frozenset((
    "annotation", "annotations", "bb", "bbox", "bboxes", "bbs", "bndbox", "box", "boxes", "contour", "contours",
    "circle", "circles", "corner", "corners", "crop", "depth", "detections", "disparity", "ellipse", "ellipses",
    "fixations", "flow", "heatmap", "heatmaps", "hull", "instances", "joint", "joints", "keypoint", "keypoints", "kp",
    "kps", "kpts", "landmark", "landmarks", "lane", "lanes", "mask", "masks", "matte", "normals", "obb", "obbs",
    "objects", "outline", "outlines", "parsing", "poly", "polygon", "polygons", "polys", "pose", "poses", "pts", "quad",
    "quads", "rect", "rectangle", "rectangles", "rects", "rle", "rles", "roi", "rois", "saliency", "scanpath", "seg",
    "segmap", "segmentation", "segmentations", "segments", "skeleton", "strokes", "trimap", "vertices",
))  # fmt: skip
_POINTS: Final = frozenset((
    "center", "centers", "centre", "centres", "centroid", "centroids", "click", "coord", "coordinate", "coordinates",
    "coords", "eye", "gaze", "hand", "lm", "lms", "location", "locations", "nose", "point", "points", "position",
    "positions", "pupil", "uv",
))  # fmt: skip
_OF_THE_EARTH: Final = frozenset(("geo", "gps", "gis", "lat", "latitude", "lng", "lon", "longitude", "wgs"))
# Words of lists that hold whole numbers or shares of something else: their values alone do not make them coordinates.
_OF_OTHERS: Final = frozenset((
    "attributes", "categories", "category", "class", "classes", "code", "codes", "emb", "embed", "embedding",
    "embeddings", "feature", "features", "hist", "histogram", "id", "ids", "label", "labels", "latent", "latents",
    "logits", "percentiles", "price", "prices", "probs", "quantiles", "rating", "ratings", "representation", "scores",
    "tags", "token", "tokens", "vector", "votes", "weights", "years",
))  # fmt: skip
_WITHIN: Final = ("bbox", "keypoint", "landmark", "mask", "polygon", "segmentation")  # also inside a longer word
_OF_TEXT: Final = frozenset((
    "bbox", "bboxes", "boxes", "contour", "contours", "keypoint", "keypoints", "landmark", "landmarks", "mask", "masks",
    "polygon", "polygons", "rle", "rles", "segmentation", "segmentations",
))  # fmt: skip
# Words of texts that name files of further images, beside those of `_WORDS`.
_OF_FILES: Final = _WORDS | {"alpha", "conditioning", "control", "edge", "edges", "scribble", "sketch"}
_OF_TOKENS: Final = frozenset(("attention_mask", "special_tokens_mask", "token_type_mask", "loss_mask", "text_mask"))
_BOX_WORDS: Final = frozenset(("bb", "bbox", "bndbox", "box", "face", "object", "rect", "roi"))
_SIDES: Final = frozenset((
    "bottom", "cx", "cy", "h", "height", "left", "right", "top", "w", "width", "x", "xc", "xmax", "xmin", "y", "yc",
    "ymax", "ymin",
))  # fmt: skip
_FILE: Final = re.compile(r".*\.(?:png|jpe?g|tiff?|bmp|webp|npy|npz|xml|json|txt|mat|exr|pfm|flo)", re.I | re.S)
_ALONE: Final = re.compile(
    r"(?:^|_)(?:[xy]_?(?:min|max)|(?:min|max)_?[xy]|[xy](?:tl|br)|x_?(?:left|right)|y_?(?:top|bottom)"
    r"|(?:row|col)_?(?:min|max)|(?:bbox|bndbox|bb|joint|keypoint|kpt?|landmark|lm)s?_?\d+)(?:_|$)"
)
_ACROSS: Final = re.compile(
    r"(?:(?<=_)|^)(?:(?!max(?:_|$))([a-z]*)x(\d*|c|center|centre|pos|coord)|(left|right))(?=_|$)"
)
_DOWN: Final = {"left": "top", "right": "bottom"}
_CORNER: Final = re.compile(r"[cp]?x|xc|x_?(?:center|centre|min|left|tl|[01])|min_?x|left")
_OTHER_CORNER: Final = re.compile(r"x_?(?:max|right|br|[2-9])|max_?x|right")
_NPY_MAP: Final = re.compile(rb"\x93NUMPY.{2,6}\{'descr':[^{}]*'shape': \(\d+, \d+", re.DOTALL)
_EXTENTS: Final = ("w", "h", "width", "height")


def is_mask(field: pa.Field) -> bool:
    """Return whether a column holds masks as encoded images."""
    return "mask" in field.name.lower() and (is_image_struct(field.type) or is_binary(field.type))


def annotation_columns(
    schema: pa.Schema,
    features: Mapping[str, Any],
    apart: Sequence[str | None],
    rows: Mapping[str, Sequence[Any]],
    sizes: Sequence[Size | None],
) -> dict[str, str]:
    """Return the annotation columns, and what each holds: IMAGES or COORDINATES.

    Args:
        features: Hugging Face features by column.
        apart: columns to leave out: the image, label and id, and those that `input.passthrough` names.
        rows: values of the first rows by column; a column that is not among them is judged by type and name.
        sizes: width and height of the image of each of these rows, where known.
    """
    fields = [field for field in schema if field.name not in apart]
    found = {}
    for field in fields:
        seen = list(zip(rows[field.name], sizes, strict=True)) if field.name in rows else []
        what = _holds(field.name, field.type, features.get(field.name), seen)
        if what is not None:
            found[field.name] = what
    numbers = _coordinates([field.name for field in fields if _is_number(field.type)])
    numbers -= {
        name for name in numbers if _is_plain(name) and are_outside(list(zip(rows.get(name, ()), sizes, strict=False)))
    }
    return {field.name: found.get(field.name, "coordinates") for field in fields if field.name in {*found, *numbers}}


def _holds(name: str, kind: pa.DataType, feature: Any, seen: Seen) -> str | None:
    """Return what kind of annotation a column or a struct field is; None if it is none."""
    kind = _values(kind)
    seen = [(value, size) for value, size in seen if value is not None]
    if isinstance(kind, pa.FixedShapeTensorType):
        shaped = [(np.reshape(value, kind.shape).tolist(), size) for value, size in seen]
        return _of_numbers(name, len(kind.shape), shaped)
    if is_feature(feature, "Image") or is_image_struct(kind):
        return IMAGES
    if is_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return IMAGES if _is_named(name) or any(_is_image(value) for value, _ in seen) else None
    if is_string(kind):
        of_file = _words(name) & _OF_FILES and any(isinstance(text, str) and _FILE.fullmatch(text) for text, _ in seen)
        return COORDINATES if _words(name) & _OF_TEXT or of_file or text_has_coordinates(seen) else None
    if pa.types.is_struct(kind):
        return _in_struct(name, kind, seen)
    if pa.types.is_map(kind):
        return _holds(name, pa.list_(kind.item_type), None, [([item for _, item in each], size) for each, size in seen])
    return _in_list(name, kind, feature, seen) if is_list(kind) else None


def _in_list(name: str, kind: pa.DataType, feature: Any, seen: Seen) -> str | None:
    depth, leaf = _depth(kind)
    if _is_number(leaf):
        return _of_numbers(name, depth, seen)
    if pa.types.is_boolean(leaf):
        return _of_numbers(name, depth, seen) if depth > 1 or _is_named(name) or are_flat_maps(seen) else None
    inner = feature.get("feature") if isinstance(feature, dict) else None
    return _holds(name, leaf, inner, [(item, size) for value, size in seen for item in _flat(value, depth)])


def _of_numbers(name: str, depth: int, seen: Seen) -> str | None:
    """Return what kind of annotation numbers or booleans in `depth` nested lists are; None if they are none."""
    if name.lower() in _OF_TOKENS:
        return None
    if _is_named(name):
        return COORDINATES
    if depth == 1 and _words(name) & _OF_OTHERS:
        return None
    of_points = _words(name) & _POINTS and not _words(name) & _OF_THE_EARTH
    return COORDINATES if are_coordinates(seen, depth) or (of_points and depth == 1 and are_points(seen)) else None


def _in_struct(name: str, kind: pa.DataType, seen: Seen) -> str | None:
    fields = [kind.field(i) for i in range(kind.num_fields)]
    names = {field.name for field in fields}
    if {"counts", "size"} <= names or _coordinates([field.name for field in fields if _is_number(field.type)]):
        return COORDINATES
    for field in fields:
        what = _holds(field.name, field.type, None, [(value.get(field.name), size) for value, size in seen])
        if what is not None:
            return what
    named = _words(name) & _WORDS and any(_is_number(field.type) for field in fields)
    return COORDINATES if named else None


def _coordinates(names: Sequence[str]) -> set[str]:
    """Return which of these numeric columns are coordinates, judged by their names together."""
    by_snake = {_snake(name): name for name in names}
    found: set[str] = set()
    for snake in by_snake:
        words = set(snake.split("_"))
        if _ALONE.search(snake) or (words & _BOX_WORDS and {re.sub(r"\d+$", "", word) for word in words} & _SIDES):
            found.add(snake)
        for at in _ACROSS.finditer(snake):
            across, down = at[0], _DOWN.get(at[3], f"{at[1]}y{at[2]}")
            if f"{snake[: at.start()]}{down}{snake[at.end() :]}" in by_snake:
                sides = (across, down, *((*_DOWN, *_DOWN.values()) if at[3] else ()))
                found |= {f"{snake[: at.start()]}{side}{snake[at.end() :]}" for side in sides} & by_snake.keys()
    corners = [snake for snake in found if _CORNER.fullmatch(snake)]
    if len(corners) == 1 and not any(_OTHER_CORNER.fullmatch(snake) for snake in by_snake):
        found |= set(_EXTENTS) & by_snake.keys()
    return {by_snake[snake] for snake in found}


def _is_plain(name: str) -> bool:
    """Return whether a coordinate's name does not tell what it belongs to: `x`, `map_y`, but not `xmin` or `face_x`."""
    snake = _snake(name)
    return not _ALONE.search(snake) and not set(snake.split("_")) & (_BOX_WORDS | _WORDS | _POINTS)


def _is_named(name: str) -> bool:
    return bool(_words(name) & _WORDS) or any(part in name.lower() for part in _WITHIN)


def _words(name: str) -> set[str]:
    return set(re.sub(r"\d+(?=_|$)", "", _snake(name)).split("_"))


def _snake(name: str) -> str:
    """Return a name in lower case with `_` between its words: `faceBox.xMin` is `face_box_x_min`."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.sub(r"[^a-z0-9]+", "_", parted.lower()).strip("_")


def _is_image(value: Any) -> bool:
    return isinstance(value, bytes) and (is_image(value) or bool(_NPY_MAP.match(value)))


def _is_number(kind: pa.DataType) -> bool:
    kind = _values(kind)
    return is_number(kind) or bool(pa.types.is_decimal(kind))


def _depth(kind: pa.DataType) -> tuple[int, pa.DataType]:
    """Return the depth of nested lists, and the type in the innermost."""
    depth = 0
    while is_list(kind):
        depth, kind = depth + 1, _values(kind.value_type)
    return depth, kind


def _values(kind: pa.DataType) -> pa.DataType:
    """Return the type behind dictionaries and extensions; a tensor type is kept, since it holds the shape."""
    kind = plain(kind)
    return kind if isinstance(kind, pa.FixedShapeTensorType) else storage(kind)


def _flat(value: Any, depth: int) -> Iterator[Any]:
    if depth == 0:
        yield value
    elif value is not None:
        for item in value:
            yield from _flat(item, depth - 1)
