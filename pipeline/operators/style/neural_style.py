"""Stylise an image by optimising its pixels (Gatys, Ecker & Bethge 2016)."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from pipeline.contracts import Applied, Assets, Draws, ImageBatch, Operator, Parameters, Requirements
from pipeline.errors import JobError
from pipeline.noise import Noise
from pipeline.operators.bases.reference_set import ReferenceSet
from pipeline.seeding import generators

if TYPE_CHECKING:
    from torch import Tensor

OVER_BUDGET = "over_budget"  # reason of rejection: not one step fits in the budget
USUAL_STEPS = 200
CPU_S_PER_STEP_AND_MEGAPIXEL = 10.0
"""Seconds of one thread of an Intel Xeon with AMX, with the published widths (2026-11-27); two threads take half."""


class NeuralStyleParams(Parameters):
    """Parameters: the style images, their weight, the VGG, the optimiser and its budget."""

    renamed: ClassVar[Mapping[str, str]] = {"least_side_px": "min_side_px", "optimiser": "optimizer"}

    model: str = Field(
        min_length=1, description="VGG19 in torchvision's layout: a .safetensors file, or a .pth one of tensors alone"
    )
    styles: str = Field("builtin:styles", description="style images: folder, glob, Parquet set or builtin:styles")
    style_size_px: int = Field(256, ge=16, le=4096, description="short side that style images are resized to")
    style_layers: Literal[4, 5] = Field(4, description="relu1_1 to relu4_1, or to relu5_1")
    style_weight_range: tuple[float, float] = Field(
        (1e6, 1e6), description="beta of the paper, drawn evenly on a logarithmic scale; alpha, the content's, is 1"
    )
    pooling: Literal["max", "average"] = Field("max", description="max: as trained; average: as in the paper")
    start: Literal["content", "noise"] = Field("content", description="what the optimisation starts from")
    optimizer: Literal["lbfgs", "adam"] = Field("lbfgs", description="L-BFGS with backtracking, or Adam")
    steps: int = Field(
        USUAL_STEPS, ge=1, le=10_000, description="most optimiser steps of an image, each one pass forward and back"
    )
    seconds: float | None = Field(
        None,
        gt=0,
        lt=math.inf,
        description="most seconds an image may cost, by the stated cost of a step; no clock is read",
    )
    learning_rate: float = Field(0.02, gt=0, le=1, description="Adam only: a step, as a share of black to white")
    min_side_px: int = Field(
        64, ge=1, le=512, description="an image with a shorter side is enlarged first, 2 to 4 times, and brought back"
    )

    @field_validator("style_weight_range")
    @classmethod
    def _ordered(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 < value[0] <= value[1] < math.inf:
            raise PydanticCustomError("weight_range", "needs two weights above 0, the smaller one first")
        return value


class NeuralStyle(Operator):
    """Stylise images of any size: [N, H, W, 1 or 3] uint8 -> [N, H, W, 3] uint8 RGB; grey is spread over RGB first.

    Draws `style` (first 16 hex digits of the style's sha256), `style_name` and `style_weight`; the style is also a
    partner. An image whose optimisation ends not finite is rejected as `non_finite`, black. `load` raises JobError
    where there is no style or one that is no image, ModelError where the weights are of another architecture.

    Each step costs one pass through the network whatever it finds, so what an image costs is known beforehand. That
    is what a budget in `seconds` goes by: `CPU_S_PER_STEP_AND_MEGAPIXEL` at the image's size, never a clock, which
    would let a resumed or replayed run make other images than the first. It is the same on every device; a GPU is done
    sooner. An image gets the steps that fit in, `steps` at most; they are drawn as `steps`. Where not one fits, the
    image is rejected as `over_budget`, as it came.

    On a CPU the network sees one image a call, so an image has the same bytes in any batch; on a GPU it sees the
    whole batch, and the last digits of its sums, enlarged by the optimisation, may depend on the batch's size.

    The defaults are for the scale of torchvision's weights. The paper's beta of 1e3 to 1e4 belongs to a network whose
    filters are scaled to a mean activation of 1; no trained weights were at hand here, so no look is claimed.
    """

    name = "neural_style"
    version = 2
    source = "Gatys, Ecker & Bethge 2016, Image Style Transfer Using Convolutional Neural Networks"
    Params = NeuralStyleParams
    micro_batch = 8
    digital_source_type = "compositeWithTrainedAlgorithmicMedia"
    once_per_call = ("steps",)
    cpu_s_per_megapixel = CPU_S_PER_STEP_AND_MEGAPIXEL * USUAL_STEPS
    gpu_s_per_megapixel = 25.0  # not measured
    params: NeuralStyleParams

    def __init__(self, params: NeuralStyleParams) -> None:
        super().__init__(params)
        self._reference_set: ReferenceSet | None = None

    def requirements(self) -> Requirements:
        """The network's file and the style images."""
        return Requirements(models={"model": self.params.model}, images={"styles": self.params.styles})

    def load(self, device: str, assets: Assets) -> None:
        """Load the network, and compute the Gram matrices of each style."""
        import torch

        from pipeline.networks.pixel_tensors import rgb_unit_tensor, with_short_side
        from pipeline.networks.style.gatys import CONTENT_LAYER, STYLE_LAYERS, Objective
        from pipeline.networks.style.vgg import load_vgg
        from pipeline.shards.images.codecs import decode

        reference_set = ReferenceSet("neural_style.styles", self.params.styles, assets.images["styles"])
        layers = STYLE_LAYERS[: self.params.style_layers]
        network = load_vgg(assets.models["model"], [*layers, CONTENT_LAYER], pooling=self.params.pooling).to(device)
        self._device = device
        self._objective = Objective(network, layers)
        found = []
        with torch.no_grad():
            for place in range(len(reference_set)):
                image = with_short_side(
                    rgb_unit_tensor(reference_set.pixels(place, decode)[None]), self.params.style_size_px
                )
                found.append(self._objective.style_targets(image.to(device)))
        self._grams = [torch.cat(layer) for layer in zip(*found, strict=True)]  # each [styles, N_l, N_l]
        self._reference_set = reference_set

    def draw(self, batch: ImageBatch) -> Draws:
        """A style of every sample and its weight, and the steps that fit in the budget at this size."""
        reference_set = self._styles()
        low, high = map(math.log, self.params.style_weight_range)
        places, style_weights = [], []
        for generator in generators(batch.seeds):
            places.append(reference_set.draw(generator))
            style_weights.append(math.exp(float(generator.uniform(low, high))))
        columns: dict[str, list[Any]] = {
            "style": [reference_set.keys[place] for place in places],
            "style_name": [reference_set.names[place] for place in places],
            "style_weight": style_weights,
            "steps": [self._affordable(batch)] * len(batch),
        }
        return Draws(columns, partners=[[reference_set.partners[place]] for place in places])

    def apply(self, batch: ImageBatch, draws: Draws, noise: Noise) -> Applied:
        """Optimise all images of the batch together, each with a loss of its own."""
        import torch

        from pipeline.networks.pixel_tensors import enlarged, restored_size, rgb_unit_tensor, unit_tensor_pixels

        if batch.images is None:
            raise JobError("neural_style: there are no images to stylise; put it after an operator that makes some")
        reference_set = self._styles()
        chosen = torch.tensor([reference_set.place(key) for key in draws.columns["style"]], device=self._device)
        steps: int = draws.columns["steps"][0]
        style_weight = torch.tensor(draws.columns["style_weight"], dtype=torch.float32, device=self._device)
        with torch.no_grad():
            content = rgb_unit_tensor(batch.images).to(self._device)
            size = (content.shape[2], content.shape[3])
            if steps == 0:
                return Applied(unit_tensor_pixels(content)[0], rejected=dict.fromkeys(range(len(batch)), OVER_BUDGET))
            large = enlarged(content, self.params.min_side_px)
            optimised, losses = self._optimised(large, chosen, style_weight, steps, noise)
            made = restored_size(optimised, size)
            pixels, rejected = unit_tensor_pixels(made, losses.isfinite())
        return Applied(pixels, rejected=rejected)

    def _optimised(
        self, content: "Tensor", chosen: "Tensor", style_weight: "Tensor", steps: int, noise: Noise
    ) -> tuple["Tensor", "Tensor"]:
        """Return images [N, 3, H, W], not clamped, and losses [N], from `content` of that shape in [0, 1]."""
        import torch
        import torch.nn.functional as F

        from pipeline.networks.style.batch_optimisers import adam, lbfgs
        from pipeline.networks.style.gatys import Targets
        from pipeline.networks.style.vgg import MIN_SIDE

        count, _, height, width = content.shape
        missing = (0, max(0, MIN_SIDE - width), 0, max(0, MIN_SIDE - height))
        content = F.pad(content, missing, mode="replicate") if any(missing) else content
        shape = tuple(content.shape[1:])
        part = 1 if torch.device(self._device).type == "cpu" else count
        features = [self._objective.content_target(images) for images in torch.split(content, part)]
        targets = Targets(torch.cat(features), [gram[chosen] for gram in self._grams])
        evaluate = self._objective.evaluation(targets, style_weight, shape, part)
        start = content if self.params.start == "content" else noise.uniform(*shape).to(self._device)
        if self.params.optimizer == "lbfgs":
            points, losses = lbfgs(evaluate, start.flatten(1), steps)
        else:
            points, losses = adam(evaluate, start.flatten(1), steps, self.params.learning_rate)
        return points.view(count, *shape)[:, :, :height, :width], losses

    def _affordable(self, batch: ImageBatch) -> int:
        """The steps that fit in the budget of an image of the batch's size; 0 where not one does."""
        if self.params.seconds is None or batch.images is None:
            return self.params.steps
        from pipeline.networks.pixel_tensors import enlargement
        from pipeline.networks.style.vgg import MIN_SIDE

        height, width = batch.images.shape[1:3]
        factor = enlargement((height, width), self.params.min_side_px)
        megapixels = max(MIN_SIDE, height * factor) * max(MIN_SIDE, width * factor) / 1e6
        return min(self.params.steps, int(self.params.seconds / (CPU_S_PER_STEP_AND_MEGAPIXEL * megapixels)))

    def _styles(self) -> ReferenceSet:
        if self._reference_set is None:
            raise RuntimeError("neural_style: load comes before draw; the styles are not known yet")
        return self._reference_set
