"""Write small input shards for tests, in the layouts that real data sets come in."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

Picture = bytes | str | npt.NDArray[np.uint8] | None
"""Encoded bytes; a path; pixels [H, W, C] (stored as PNG); or null."""

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def write_shard(
    path: Path | str,
    images: Sequence[Picture],
    labels: Sequence[Any] | None = None,
    ids: Sequence[Any] | None = None,
    class_names: Sequence[str] | None = None,
    row_group: int = 64,
    kind: Literal["struct", "bytes", "path"] = "struct",
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """Write a Parquet file of columns `image`, `label`, `id` (where given) and `extra`; return its path.

    With `class_names` the schema holds Hugging Face metadata: Image and ClassLabel. With kind `path`, images given as
    bytes or pixels become files beside the shard, and the column their names.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    values = [_encoded(image) for image in images]
    columns: dict[str, Any] = {"image": _column(path, values, kind)}
    if labels is not None:
        columns["label"] = pa.array(labels)
    if ids is not None:
        columns["id"] = pa.array(ids)
    table = pa.table({**columns, **(extra or {})})
    if class_names is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps(_features(table.schema, class_names))})
    pq.write_table(table, path, row_group_size=row_group, compression="none", use_dictionary=False)
    return path


def photos(count: int, height: int = 24, width: int = 32, channels: int = 3, seed: int = 0) -> list[bytes]:
    """Return `count` PNG images, each a smooth pattern with some grain, all different."""
    return [png(pixels) for pixels in pictures(count, height, width, channels, seed)]


def pictures(
    count: int, height: int = 24, width: int = 32, channels: int = 3, seed: int = 0
) -> list[npt.NDArray[np.uint8]]:
    """Return the pixels of `photos`: [height, width, channels] uint8 each."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    made = []
    for _ in range(count):
        slope, phase = rng.uniform(-4, 4, (2, channels)), rng.uniform(0, 255, channels)
        smooth = phase + y[..., None] * slope[0] + x[..., None] * slope[1]
        grain = rng.normal(0, 4, (height, width, channels))
        made.append(np.clip(np.abs((smooth + grain) % 510 - 255), 0, 255).astype(np.uint8))
    return made


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Return [H, W, C] uint8 (C 1 or 3) as PNG."""
    out = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(out, "PNG")
    return out.getvalue()


def _encoded(image: Picture) -> bytes | str | None:
    return png(image) if isinstance(image, np.ndarray) else image


def _column(path: Path, values: Sequence[bytes | str | None], kind: str) -> pa.Array:
    if kind == "bytes":
        return pa.array(values, pa.binary())
    if kind == "path":
        return pa.array([_beside(path, i, value) for i, value in enumerate(values)], pa.string())
    rows = [
        None if v is None else {"bytes": None, "path": v} if isinstance(v, str) else {"bytes": v, "path": None}
        for v in values
    ]
    return pa.array(rows, STRUCT)


def _beside(path: Path, index: int, value: bytes | str | None) -> str | None:
    if not isinstance(value, bytes):
        return value
    name = f"{path.stem}-{index:05d}.img"
    (path.parent / name).write_bytes(value)
    return name


def _features(schema: pa.Schema, class_names: Sequence[str]) -> dict[str, Any]:
    special = {"image": {"_type": "Image"}, "label": {"names": list(class_names), "_type": "ClassLabel"}}
    plain = {field.name: {"dtype": str(field.type), "_type": "Value"} for field in schema}
    return {"info": {"features": {name: special.get(name, value) for name, value in plain.items()}}}
