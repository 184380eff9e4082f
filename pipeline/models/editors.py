"""What can edit an image by SDEdit: the small pixel model of one file, or a published pipeline in a folder.

Both take images of any size and channels, [N, C, H, W] float in [-1, 1], and return them at their own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.models.diffusion import load_flow
from pipeline.models.image_to_image import check_size, edit_with, load_pipeline, native_size_px
from pipeline.models.pictures import with_channels, with_size
from pipeline.models.samplers import edit
from pipeline.models.unet import UNet


@dataclass(frozen=True)
class Instructions:
    """What each of N images is to become: class indexes [N] (-1: none), prompts [N], seeds [N], noise or None."""

    indexes: Tensor
    prompts: Sequence[str]
    seeds: Sequence[int]
    noise: Tensor | None

    def of(self, rows: Tensor) -> "Instructions":
        """Those of some images, [n] int64."""
        picked = rows.tolist()
        return Instructions(
            self.indexes[rows],
            [self.prompts[row] for row in picked],
            [self.seeds[row] for row in picked],
            None if self.noise is None else self.noise[rows],
        )


class FlowEditor:
    """A model made by `train diffusion`. Raises ModelError for a file of anything else."""

    def __init__(self, path: str | Path, device: str, steps: int, guidance: float, method: str) -> None:
        net, self.classes = load_flow(path)
        self._net: UNet = net.to(device)
        self._steps, self._guidance, self._method = steps, guidance, method

    @property
    def class_count(self) -> int:
        return self._net.shape.classes

    @property
    def noise_shape(self) -> tuple[int, int, int]:
        shape = self._net.shape
        return shape.channels, shape.size_px, shape.size_px

    def edit(self, images: Tensor, told: Instructions, run: int) -> Tensor:
        """The last `run` steps: [N, C, S, S], about [-1, 1]."""
        channels, size_px, _ = self.noise_shape
        start = with_size(with_channels(images, channels), size_px)
        assert told.noise is not None
        return edit(self._net, start, told.noise, told.indexes, self._steps, run, self._guidance, self._method)


class PipelineEditor:
    """A diffusers folder. Raises ModelError where it holds no pipeline, or a size is not one it can take."""

    noise_shape = None  # a pipeline takes generators: the noise's shape is its own secret
    classes: tuple[str, ...] = ()
    class_count = 0

    def __init__(
        self, path: str | Path, device: str, steps: int, guidance: float, size_px: int | None, negative_prompt: str
    ) -> None:
        self._pipeline: Any = load_pipeline(path, device)
        self._steps, self._guidance, self._negative = steps, guidance, negative_prompt
        self.size_px = size_px or native_size_px(self._pipeline)
        check_size(self._pipeline, self.size_px, path)

    def edit(self, images: Tensor, told: Instructions, run: int) -> Tensor:
        """The last `run` steps, in one call: [N, 3, S, S] in [-1, 1]."""
        start = with_size(with_channels(images, 3), self.size_px)
        return edit_with(
            self._pipeline, start, told.prompts, told.seeds, self._steps, run, self._guidance, self._negative
        )


Editor = FlowEditor | PipelineEditor


def edit_in_turn(editor: Editor, images: Tensor, told: Instructions, runs: Sequence[int]) -> Tensor:
    """Edit images [N, C, H, W] of which each runs its own number of steps, in one call for each number; in order."""
    wanted = torch.tensor(runs, device=images.device)
    made: Tensor | None = None
    for run in sorted(set(runs)):
        rows = (wanted == run).nonzero()[:, 0]
        part = editor.edit(images[rows], told.of(rows), run)
        if made is None:
            made = part.new_zeros(len(images), *part.shape[1:])
        made[rows] = part
    if made is None:
        raise ValueError("there is no image to edit")
    return made
