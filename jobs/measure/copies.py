"""Augmented copies of training images, made once by the product's own operators and kept in a folder."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jobs.loaded_operator import assets_of
from pipeline.contracts import ImageBatch, Operator
from pipeline.networks.pixel_tensors import with_channels
from pipeline.noise import Noise
from pipeline.plan import content
from pipeline.planning.parts import find_files, read_part
from pipeline.registry import OPERATOR
from pipeline.seeding import digest, sample_id, step_seed

Step = Mapping[str, Any]  # {operator: parameters}, as in a recipe
RUN_SEED = 0


class Copies:
    """Copies of images [N, C, S, S] uint8, any chain of operators, kept by content in `folder`.

    `kept_real` counts, by operator, the images made by this process that were unusable and stayed as they were.
    """

    def __init__(self, pixels: Tensor, count: int, folder: Path) -> None:
        self._pixels, self.count, self._folder = pixels, count, folder
        self._key = hashlib.sha256(pixels.numpy().tobytes()).hexdigest()
        self._held: dict[str, Tensor] = {}
        self.kept_real: dict[str, int] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def of(self, chain: Sequence[Step]) -> Tensor:
        """[K, N, C, S, S] uint8: `count` results of a chain for each image; without a chain the images, [1, ...].

        Raises:
            RecipeError: an operator or a parameter is unknown.
        """
        if not chain:
            return self._pixels[None]
        operator = read_part(chain[-1], "chain", OPERATOR)[0]
        before, key = self.of(chain[:-1]), self.key_of(chain)
        if key not in self._held:
            path = self._folder / f"{operator.name}-{key[:16]}.npy"
            if not path.exists():
                operator.load("cpu", assets_of(operator))
                self._save(path, self._applied(operator, before, len(chain) - 1))
            self._held[key] = torch.from_numpy(np.load(path))
        return self._held[key]

    def key_of(self, chain: Sequence[Step]) -> str:
        """Return what the copies of a chain are kept by: the images, and what each step computes, models by content."""
        key = digest([self._key, self.count])
        for step in chain:
            operator = read_part(step, "chain", OPERATOR)[0]
            made_of = content(operator.params.model_dump(mode="json"), *find_files(operator, "."))
            key = digest([key, operator.name, operator.version, made_of])
        return key

    def _applied(self, operator: Operator, before: Tensor, step: int) -> Tensor:
        count, channels = len(self._pixels), self._pixels.shape[1]
        made = []
        for copy in range(self.count):
            pixels = before[copy % len(before)].permute(0, 2, 3, 1).contiguous().numpy()
            parts = []
            for first in range(0, count, operator.micro_batch):
                rows = range(first, min(first + operator.micro_batch, count))
                seeds = [step_seed(sample_id(RUN_SEED, "train", row, "copies", copy), step) for row in rows]
                batch = ImageBatch(pixels[rows.start : rows.stop], seeds, np.full(len(rows), -1))
                applied = operator.apply(batch, operator.draw(batch), Noise(seeds))
                images = torch.from_numpy(applied.images).permute(0, 3, 1, 2).float()
                sized = with_channels(images, channels).round().to(torch.uint8)
                for index in {*applied.rejected, *applied.errors}:
                    sized[index] = before[copy % len(before)][first + index]
                    self.kept_real[operator.name] = self.kept_real.get(operator.name, 0) + 1
                parts.append(sized)
            made.append(torch.cat(parts))
        return torch.stack(made)

    @staticmethod
    def _save(path: Path, made: Tensor) -> None:
        partial = path.with_suffix(".partial")
        with open(partial, "wb") as file:
            np.save(file, made.numpy())
        partial.replace(path)
