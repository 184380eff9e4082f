"""Columns that say where something is in the image: they no longer fit once its pixels have moved."""

from collections.abc import Mapping
from typing import Any, Final

import pyarrow as pa

from pipeline.shards.column_types import is_binary, is_feature, is_image_struct

BOX_NAMES: Final = (
    "bbox", "bboxes", "boxes", "objects", "mask", "masks", "segmentation", "segments",
    "keypoints", "polygons", "annotations",
)  # fmt: skip


def holds_boxes(field: pa.Field, features: Mapping[str, Any]) -> bool:
    """Return whether a column holds boxes, masks, keypoints or polygons."""
    name = field.name.lower()
    image = is_feature(features.get(field.name), "Image") or is_image_struct(field.type) or is_binary(field.type)
    return name in BOX_NAMES or ("mask" in name and image)


def is_mask(field: pa.Field) -> bool:
    """Return whether a column holds masks as encoded images."""
    return "mask" in field.name.lower() and (is_image_struct(field.type) or is_binary(field.type))
