"""Labelled images held in memory at one training size, and the random crops and colour changes made of them."""

import glob
import gzip
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from jobs.train.data import textures
from pipeline.errors import InputError
from pipeline.messages import listed
from pipeline.shards.columns.class_table import ClassTable, label_kind
from pipeline.shards.columns.label_values import read_label_values
from pipeline.shards.files.discovery import find_shards

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
Rng = np.random.Generator


@dataclass(frozen=True)
class ImageSet:
    """Images of one source: pixels [N, C, S, S] uint8, C 1 or 3; labels [N] int64 in [0, classes), -1 = none."""

    pixels: Tensor
    labels: Tensor

    @property
    def size_px(self) -> int:
        return int(self.pixels.shape[-1])

    @property
    def classes(self) -> int:
        return int(self.labels.max()) + 1

    def take(self, rows: NDArray[np.integer]) -> Tensor:
        """The images of these rows as float32 RGB [n, 3, S, S] in [0, 1]."""
        chosen = self.pixels[torch.from_numpy(rows)].float() / 255
        return chosen.expand(-1, 3, -1, -1) if chosen.shape[1] == 1 else chosen


def load_images(uri: str, size_px: int, limit: int | None = None, names: Sequence[str] = ()) -> ImageSet:
    """Read a Parquet glob, an image folder (sub-folders are classes) or an IDX `*-images-idx3-ubyte.gz` file.

    Each image is cut to its central square and resized to `size_px`; IDX images keep their size. The first `limit`
    are taken. `names` are the classes of labels that are text; sorted if omitted. Raises InputError where nothing is
    found, a column is missing, or a label is no class.
    """
    if uri.endswith("idx3-ubyte.gz"):
        return _from_idx(Path(uri), limit)
    if Path(uri).is_dir():
        return _from_folder(Path(uri), size_px, limit)
    return _from_parquet(uri, size_px, limit, names)


def draw_textures(count: int, size_px: int, seed: int) -> ImageSet:
    """`count` drawn textures; the label is the family, in the order of `textures.FAMILIES`."""
    families = list(textures.FAMILIES)
    labels = np.arange(count) % len(families)
    drawn = [textures.draw(families[k], seed * 1_000_003 + n, size_px) for n, k in enumerate(labels)]
    return ImageSet(_stacked(drawn), torch.from_numpy(labels))


def square(image: Image.Image, size_px: int) -> NDArray[np.uint8]:
    """The central square of an image at `size_px`: [S, S, 3] uint8 RGB."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    return np.asarray(image.convert("RGB").resize((size_px, size_px), Image.Resampling.BICUBIC, box))


def random_crops(images: Tensor, size_px: int, rng: Rng, scale_range: tuple[float, float], flip: bool = True) -> Tensor:
    """One random crop of each image, [n, C, S, S] -> [n, C, size_px, size_px], by bilinear sampling.

    scale_range: side of the crop as a share of the image's side; above 1 the border is reflected.
    """
    count = len(images)
    scale = rng.uniform(*scale_range, count).astype(np.float32)
    room = np.abs(1 - scale)
    theta = np.zeros((count, 2, 3), np.float32)
    theta[:, 0, 0] = scale * (np.where(rng.random(count) < 0.5, -1, 1) if flip else 1)
    theta[:, 1, 1] = scale
    theta[:, :, 2] = rng.uniform(-1, 1, (count, 2)) * room[:, None]
    grid = F.affine_grid(torch.from_numpy(theta), [count, images.shape[1], size_px, size_px], align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def recoloured(images: Tensor, rng: Rng, strength: float) -> Tensor:
    """Colours turned and mixed by a random 3x3 matrix per image around mid-grey; in [0, 1].

    strength 0 leaves the images alone; 1 mixes the channels freely (a blue face, a red meadow).
    """
    count = len(images)
    mix = np.linalg.qr(rng.normal(size=(count, 3, 3)))[0] * rng.uniform(0.8, 1.4, (count, 3, 1))
    matrix = torch.from_numpy((strength * mix + (1 - strength) * np.eye(3)).astype(np.float32))
    shift = torch.from_numpy(rng.uniform(-0.25, 0.25, (count, 3, 1, 1)).astype(np.float32)) * strength
    return (torch.einsum("nij,njhw->nihw", matrix, images - 0.5) + 0.5 + shift).clamp(0, 1)


def _stacked(images: list[NDArray[np.uint8]]) -> Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


def label_texts(paths: Sequence[str]) -> tuple[str, ...]:
    """The texts in the column `label` of some Parquet files, in the order of `plan`; none where it holds none."""
    schemas = [pq.read_schema(path) for path in paths]
    if not any("label" in schema.names and label_kind(schema.field("label").type) == "text" for schema in schemas):
        return ()
    shards = [shard for path in paths for shard in find_shards(path, "")]
    return read_label_values(shards, "label").texts


def _index(table: ClassTable, label: object, path: str) -> int:
    index = table.index(label)
    none = label is None or (isinstance(label, int | float) and not label >= 0) or not str(label).strip()
    if index < 0 and not none:
        known = listed(table.names)
        raise InputError(f"images {path}: label {listed([repr(label)])} is no class; known: {known}")
    return index


def _from_parquet(uri: str, size_px: int, limit: int | None, named: Sequence[str]) -> ImageSet:
    paths = sorted(glob.glob(uri))  # noqa: PTH207 - Path.glob takes no absolute pattern
    if not paths:
        raise InputError(f"images {uri!r}: no file matches; give a Parquet glob, an image folder or an IDX file")
    images: list[NDArray[np.uint8]] = []
    labels: list[int] = []
    known = tuple(named) or label_texts(paths)
    for path in paths:
        file = pq.ParquetFile(path)
        names = set(file.schema_arrow.names)
        if "image" not in names:
            raise InputError(f"images {path}: no column 'image' (columns: {', '.join(sorted(names))})")
        kind = label_kind(file.schema_arrow.field("label").type) if "label" in names else None
        table = ClassTable(known, kind or "none")
        for batch in file.iter_batches(64, columns=[name for name in ("image", "label") if name in names]):
            for row in batch.to_pylist():
                if limit is not None and len(images) >= limit:
                    return ImageSet(_stacked(images), torch.tensor(labels))
                images.append(square(_decoded(row["image"], batch.schema), size_px))
                labels.append(_index(table, row.get("label"), path))
    return ImageSet(_stacked(images), torch.tensor(labels))


def _decoded(cell: object, schema: pa.Schema) -> Image.Image:
    data = cell.get("bytes") if isinstance(cell, dict) else cell
    if not isinstance(data, bytes):
        raise InputError(f"column 'image' is {schema.field('image').type}; needed: binary or struct<bytes, path>")
    return Image.open(io.BytesIO(data))


def image_files(folder: Path, limit: int | None = None) -> tuple[list[Path], list[Path]]:
    """The first `limit` image files below a folder, sorted, and the folders they lie in, which are their classes."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)[:limit]
    return paths, sorted({path.parent for path in paths})


def _from_folder(folder: Path, size_px: int, limit: int | None) -> ImageSet:
    paths, classes = image_files(folder, limit)
    if not paths:
        raise InputError(f"images {folder}: no image file in it (known: {', '.join(SUFFIXES)})")
    images = []
    for path in paths:
        with Image.open(path) as image:
            images.append(square(image, size_px))
    return ImageSet(_stacked(images), torch.tensor([classes.index(path.parent) for path in paths]))


def _from_idx(path: Path, limit: int | None) -> ImageSet:
    labels_path = path.with_name(path.name.replace("images-idx3", "labels-idx1"))
    if not path.exists() or not labels_path.exists():
        raise InputError(f"images {path}: this file and {labels_path.name} beside it are both needed")
    with gzip.open(path) as file:
        data = file.read()
    count, height, width = np.frombuffer(data, ">i4", 3, 4)
    pixels = np.frombuffer(data, np.uint8, offset=16).reshape(count, 1, height, width)[:limit]
    with gzip.open(labels_path) as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)[:limit]
    return ImageSet(torch.from_numpy(pixels.copy()), torch.from_numpy(labels.astype(np.int64)))
