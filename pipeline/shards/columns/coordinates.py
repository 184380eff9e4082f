"""Whether values are coordinates in an image: boxes, points, polygons, pixel maps; as numbers or as text.

Judged by the values alone, for columns whose type and name leave it open. Images of unknown size exclude nothing.
"""

import base64
import binascii
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from pipeline.shards.images.formats import is_image

Size = tuple[int, int]
"""Width and height of an image, in pixels."""

Seen = Sequence[tuple[Any, Size | None]]
"""Values of some rows, each with the size of the row's image (None if unknown)."""

MAX_ROW: Final = 6  # numbers of a box with its score and class; of two and three: points
MIN_POLYGON: Final = 6
MIN_PIXELS: Final = 10  # ratings and small counts stay below; coordinates of an image worth annotating do not
MIN_MAP: Final = 64  # pixels of an image whose size may tell a list that is a map from any other
MAX_TEXT: Final = 100_000

_KEYS: Final = re.compile(
    r"""["'](?:bbox|bboxes|boxes|bounding_?box|bounding_?poly|segmentation|keypoints|landmarks|polygons?|points|counts"""
    r"""|xmin|x_min|x1|all_points_x|vertices|bndbox)["']\s*:|["'](?:x|cx|left)["']\s*:\s*[-+\d.e]+\s*,\s*["'](?:y|cy"""
    r"""|top)["']\s*:|["']Polygon["']|<(?:bndbox|polygon|polyline|points?|box)\b|\b(?:MULTI)?POLYGON\s*\(\(|<svg\b"""
    r"""|<path\s+d=""",
    re.IGNORECASE,
)
_NUMBERS: Final = re.compile(r"[-+\d.,;:|eE\s()\[\]]+")
_ROW: Final = re.compile(r"[\[(]([^\[\]()]*\d[^\[\]()]*)[\])]")
_NUMBER: Final = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_BASE64: Final = re.compile(r"(?:data:image/|iVBORw0KGgo|/9j/|R0lGOD|UklGR)")


def are_coordinates(seen: Seen, depth: int) -> bool:
    """Return whether numbers are coordinates.

    Lists of lists are, unless their values exclude it; a single list is only if its values show it.

    Args:
        depth: how deeply lists are nested.
    """
    if depth == 1:
        return are_flat_maps(seen) or _are_vectors([(value, size) for value, size in seen if value])
    rows = [(row, size) for value, size in seen for row in _rows(value)]
    if not rows or {len(row) for row, _ in rows} <= set(range(2, MAX_ROW + 1)):
        return True
    if any(_is_map(value, size) for value, size in seen):
        return True
    return all(_is_polygon(row, size) for row, size in rows)


def text_has_coordinates(seen: Seen) -> bool:
    """Return whether texts hold coordinates (JSON, XML, YOLO lines or plain numbers) or an image in base64."""
    texts = [(text.strip(), size) for text, size in seen if isinstance(text, str) and text.strip()]
    if any(len(text) <= MAX_TEXT and _KEYS.search(text) for text, _ in texts):
        return True
    if any(_BASE64.match(text) and _is_base64_image(text) for text, _ in texts):
        return True
    if not texts or not all(len(text) <= MAX_TEXT and _NUMBERS.fullmatch(text) for text, _ in texts):
        return False
    if all(_ROW.search(text) and text[1:].lstrip()[:1] in ("[", "(") for text, _ in texts):
        rows = [([_numbers(row) for row in _ROW.findall(text)], size) for text, size in texts]
        return are_coordinates(rows, 2)
    if all(_is_yolo(text) for text, _ in texts):
        return True
    return _are_vectors([(_numbers(text), size) for text, size in texts])


def are_points(seen: Seen) -> bool:
    """Return whether lists of two or three numbers begin with a point in their image, in pixels or fractions."""
    seen = [(vector, size) for vector, size in seen if vector]
    if not seen or not all(_is_finite(vector) and len(vector) in (2, 3) for vector, _ in seen):
        return False
    return all(
        min(vector[:2]) >= 0 and (size is None or (vector[0] <= size[0] + 1 and vector[1] <= size[1] + 1))
        for vector, size in seen
    )


def are_outside(seen: Seen) -> bool:
    """Return whether all numbers lie far outside of their images, so that they are coordinates of something else."""
    known = [(_as_float(value), size) for value, size in seen if value is not None and size is not None]
    return bool(known) and all(value is not None and abs(value) > 2 * max(size) for value, size in known)


def are_flat_maps(seen: Seen) -> bool:
    """Return whether every list has as many values as its image has pixels, or pixels x 3."""
    lengths = [(len(vector), size[0] * size[1] if size else 0) for vector, size in seen if vector]
    return bool(lengths) and all(pixels >= MIN_MAP and length in (pixels, 3 * pixels) for length, pixels in lengths)


def _are_vectors(seen: Seen) -> bool:
    """Return whether every list is a box, or every list is a polygon."""
    seen = [(vector, size) for vector, size in seen if _is_finite(vector)]
    if not seen:
        return False
    lengths = {len(vector) for vector, _ in seen}
    if lengths == {4}:
        forms = [_box_forms(vector, size) for vector, size in seen]
        return not all(_is_share(vector) for vector, _ in seen) and any(all(form) for form in zip(*forms, strict=True))
    return all(_is_polygon(vector, size) for vector, size in seen)


def _box_forms(vector: Sequence[float], size: Size | None) -> tuple[bool, ...]:
    """Return whether four numbers fit the image as corners, corners with y first, corner and size, centre and size."""
    first, second, third, fourth = vector
    if min(vector) < 0 or max(third, fourth) <= 0:
        return (False,) * 4
    width, height = (1.0, 1.0) if max(vector) <= 1 else size or (math.inf, math.inf)
    width, height = width + width / 64, height + height / 64  # rounded, or a little beyond the edge
    corners = first <= third and second <= fourth
    return (
        corners and third <= width and fourth <= height,
        corners and third <= height and fourth <= width,
        first + third <= width and second + fourth <= height,
        first + third / 2 <= width and second + fourth / 2 <= height,
    )


def _is_polygon(vector: Sequence[float], size: Size | None) -> bool:
    """Return whether values are x, y, x, y, ... in pixels of an image that is large enough to tell."""
    if len(vector) < MIN_POLYGON or len(vector) % 2 or not _is_finite(vector) or max(vector) <= MIN_PIXELS:
        return False
    width, height = size or (math.inf, math.inf)
    return min(vector) >= 0 and max(vector[::2]) <= width + 1 and max(vector[1::2]) <= height + 1


def _is_map(value: Any, size: Size | None) -> bool:
    """Return whether two axes of nested lists are the rows and columns of the image, or of it scaled down evenly."""
    return size is not None and any(_is_scaled(*axes, size) for axes in itertools.pairwise(_shape(value)))


def _is_scaled(rows: int, columns: int, size: Size) -> bool:
    width, height = size
    return (rows, columns) == (height, width) or (
        min(rows, columns) >= 4 and height % rows == 0 and width % columns == 0 and height // rows == width // columns
    )


def _shape(value: Any) -> list[int]:
    """Return the lengths of nested lists, down to the level where they differ."""
    shape: list[int] = []
    level = [value]
    while level and all(isinstance(each, list | tuple) for each in level) and len({len(each) for each in level}) == 1:
        shape.append(len(level[0]))
        level = [item for each in level for item in each]
    return shape


def _is_share(vector: Sequence[float]) -> bool:
    """Return whether numbers add up to one, such as the probabilities of four classes."""
    return min(vector) >= 0 and abs(sum(vector) - 1) < 1e-3


def _is_yolo(text: str) -> bool:
    """Return whether every line is a class and a box or polygon in fractions of the image, as YOLO writes them."""
    for line in text.splitlines():
        numbers = _numbers(line)
        if len(numbers) < 5 or len(numbers) % 2 == 0 or not numbers[0].is_integer():
            return False
        if min(numbers) < 0 or max(numbers[1:]) > 1:
            return False
    return True


def _numbers(text: str) -> list[float]:
    return [float(each) for each in _NUMBER.findall(text)]


def _is_base64_image(text: str) -> bool:
    if text.startswith("data:image/"):
        return True
    try:
        return is_image(base64.b64decode(text[:64], validate=True))
    except (binascii.Error, ValueError):
        return False


def _is_finite(vector: Any) -> bool:
    return bool(vector) and all(isinstance(x, int | float) and math.isfinite(x) for x in map(_as_float, vector))


def _as_float(value: Any) -> Any:
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _rows(value: Any) -> Iterator[Sequence[Any]]:
    """Yield the innermost lists that hold anything."""
    if not isinstance(value, Sequence) or isinstance(value, str | bytes | Mapping):
        return
    if any(isinstance(item, Sequence) and not isinstance(item, str) for item in value):
        for item in value:
            yield from _rows(item)
    elif value:
        yield value
