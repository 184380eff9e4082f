"""What the goldens hold: every operator over the same six images, with fixed seeds."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from jobs.loaded_operator import assets_of
from pipeline.contracts import ImageBatch, Pixels
from pipeline.model_files.references import ASSETS
from pipeline.noise import Noise
from pipeline.registry import operator_class
from pipeline.seeding import sample_id, step_seed
from pipeline.shards.images.codecs import decode, fit_square

FOLDER = Path(__file__).parent
IMAGES = 6


@dataclass(frozen=True)
class Case:
    """One operator with its parameters. `tolerance` is in grey levels: 0 where no sum of floats is rounded.

    Networks, and bilinear positions (`aug_mix`), differ in the last bit between processors with and without AVX-512.
    """

    name: str
    operator: str
    params: dict[str, Any] = field(default_factory=dict)
    size: int = 28
    tolerance: int = 0

    @property
    def path(self) -> Path:
        return FOLDER / f"{self.name}.png"


CASES = [
    Case("flip", "flip", {"probability": 0.5, "vertical_probability": 0.5}, 48),
    Case("trivial_augment", "classical", {"policy": "trivial_augment"}, 48),
    Case("rand_augment", "classical", {"policy": "rand_augment"}, 48),
    Case("aug_mix", "classical", {"policy": "aug_mix"}, 48, tolerance=2),
    Case("crop_flip", "classical", {"policy": "crop_flip"}, 28),
    Case("color_transfer_small", "color_transfer", {"alpha_range": [0.5, 1.0]}, 28, tolerance=1),
    Case("reinhard", "color_transfer", {"method": "reinhard", "alpha_range": [0.5, 1.0]}, 48, tolerance=1),
    Case("coral", "color_transfer", {"method": "coral", "alpha_range": [0.5, 1.0]}, 48, tolerance=1),
    Case("optimal_transport", "color_transfer", {"alpha_range": [0.5, 1.0]}, 48, tolerance=1),
    Case("texture_quilt_small", "texture_quilt", {"block_px": 4, "overlap_px": 1}, 28),
    Case("texture_quilt", "texture_quilt", {"passes": 2}, 48),
    Case("texture_fill", "texture_synthesis", {}, 28),
    Case("texture_grow", "texture_synthesis", {"mode": "grow"}, 48),
    Case("adain_style_small", "adain_style", {"alpha_range": [0.5, 1.0]}, 28, tolerance=2),
    Case("adain_style", "adain_style", {"alpha_range": [0.5, 1.0]}, 64, tolerance=2),
    Case("adain_style_regions", "adain_style", {"mask": "drawn", "keep": "none"}, 64, tolerance=2),
    Case("style_randomization", "style_randomization", {"alpha_range": [0.5, 1.0]}, 64, tolerance=2),
]


def made(case: Case) -> Pixels:
    """Return what the operator makes of the case's images, side by side: [H, 6 W, C] uint8."""
    found = operator_class(case.operator)
    operator = found(found.Params.model_validate(case.params))
    operator.load("cpu", assets_of(operator, str(FOLDER)))
    seeds = [step_seed(sample_id(7, "golden", row, case.name, 0), 0) for row in range(IMAGES)]
    batch = ImageBatch(sources(case.size), seeds, np.zeros(IMAGES, dtype=np.int64))
    applied = operator.apply(batch, operator.draw(batch), Noise(seeds))
    return np.concatenate(list(applied.images), axis=1)


def sources(size: int) -> Pixels:
    """Return six images [6, size, size, C]: embedded clothes at 28 px (grey), embedded photographs above (RGB)."""
    if size == 28:
        shard = ASSETS / "fashion-mnist/train-00000-of-00002.parquet"
        rows = pq.read_table(shard, columns=["image"]).slice(0, IMAGES).to_pylist()
        return np.stack([decode(row["image"]["bytes"], 10**6) for row in rows])
    paths = sorted((ASSETS / "styles").glob("*.jpg"))[:IMAGES]
    return np.stack([fit_square(decode(path.read_bytes(), 10**7), size) for path in paths])


def stored(case: Case) -> Pixels:
    """Return the golden of a case."""
    pixels = np.asarray(Image.open(case.path))
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def difference(case: Case, now: Pixels) -> int:
    """Return the largest difference to the golden, in grey levels; 256 where the shapes differ or there is none."""
    if not case.path.exists() or stored(case).shape != now.shape:
        return 256
    return int(np.abs(stored(case).astype(np.int16) - now.astype(np.int16)).max())
