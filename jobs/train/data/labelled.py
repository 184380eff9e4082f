"""Labelled training images for generators: read once, split into those trained on and those held out."""

import glob
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveInt
from torch import Tensor

from jobs.train.data.images import ImageSet, image_files, label_texts, load_images
from jobs.train.data.references import Anywhere
from jobs.train.loop.config import Closed
from pipeline.errors import InputError
from pipeline.networks.pixel_tensors import from_pixels, with_channels
from pipeline.shards.columns.class_metadata import names_in

SPLIT_SEED = 0  # one split for a data set: the same for trainers with other seeds, and for jobs/measure


class LabelledData(Closed):
    """Which images: a Parquet glob, an image folder (sub-folders are classes) or an IDX `*-images-idx3-ubyte.gz`."""

    uri: Anywhere
    size_px: PositiveInt = 28
    channels: Literal[1, 3] = 1
    held_out: int = Field(5000, ge=0, description="images drawn once and never trained on, to choose checkpoints with")
    limit: PositiveInt | None = None
    classes: tuple[str, ...] = Field((), description="names in the order of labels; the source's own where empty")


@dataclass(frozen=True)
class Split:
    """Images trained on, images held out, and the names of the classes."""

    train: ImageSet
    held_out: ImageSet
    classes: tuple[str, ...]


def load_split(data: LabelledData) -> Split:
    """Read the images, [N, C, S, S] uint8, and split them; the same rows are held out every time.

    Raises InputError where there are no images, too few, of another size, or a label without a name.
    """
    named = data.classes or _names_in(data)
    images = load_images(data.uri, data.size_px, data.limit, named)
    pixels = _with_channels(images.pixels, data.channels)
    if pixels.shape[-1] != data.size_px:
        raise InputError(f"images {data.uri!r} have {pixels.shape[-1]} px; say size_px: {pixels.shape[-1]}")
    if len(pixels) <= data.held_out:
        raise InputError(f"images {data.uri!r}: {len(pixels)} of them, and held_out: {data.held_out} leaves none")
    classes = named or tuple(str(index) for index in range(images.classes))
    if images.classes > len(classes):
        raise InputError(f"images {data.uri!r}: labels up to {images.classes - 1}, but {len(classes)} class names")
    order = torch.from_numpy(np.random.default_rng(SPLIT_SEED).permutation(len(pixels)))
    held, kept = order[: data.held_out], order[data.held_out :]
    return Split(ImageSet(pixels[kept], images.labels[kept]), ImageSet(pixels[held], images.labels[held]), classes)


def take(images: ImageSet, rows: NDArray[np.integer], device: torch.device) -> tuple[Tensor, Tensor]:
    """The images of these rows as [n, C, S, S] float32 in [-1, 1], and their labels [n], on a device."""
    chosen = torch.from_numpy(rows)
    return from_pixels(images.pixels[chosen].permute(0, 2, 3, 1)).to(device), images.labels[chosen].to(device)


def _with_channels(pixels: Tensor, channels: int) -> Tensor:
    if pixels.shape[1] == channels:
        return pixels
    return torch.cat([with_channels(part.float(), channels).round().to(torch.uint8) for part in pixels.split(4096)])


def _names_in(data: LabelledData) -> tuple[str, ...]:
    """Class names: a folder's sub-folders, what the metadata of the Parquet files says, or labels that are text."""
    uri = data.uri
    if Path(uri).is_dir():
        return tuple(path.name for path in image_files(Path(uri), data.limit)[1])
    paths = sorted(glob.glob(uri)) if uri.endswith(".parquet") else []  # noqa: PTH207 - Path.glob: no absolute pattern
    for path in paths[:1]:
        schema = pq.read_schema(path)
        stated = names_in(schema, "label") if "label" in schema.names else None
        if stated is not None:
            return stated.names
    return label_texts(paths)
