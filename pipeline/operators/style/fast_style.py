"""Stylise an image in one fixed style, in one pass of a network (Johnson, Alahi & Fei-Fei 2016)."""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from pipeline.contracts import Applied, Assets, Draws, ImageBatch, Operator, Parameters, Requirements
from pipeline.errors import JobError
from pipeline.noise import Noise
from pipeline.seeding import generators
from pipeline.validation import ShareRange

CPU_PIXELS_A_CALL = 65_536
"""Pixels of one call on a CPU: one image of 256 px, 16 of 64 px. Single small images take four tenths longer."""


class FastStyleParams(Parameters):
    """Parameters: the trained network, and the strength of its style (alpha)."""

    renamed: ClassVar[Mapping[str, str]] = {"least_side_px": "min_side_px"}

    model: str = Field(
        "builtin:fast-style",
        min_length=1,
        description="one style: the embedded mosaic, a file made by `train fast_style`, or a .pth checkpoint of "
        "PyTorch's fast_neural_style",
    )
    alpha_range: ShareRange = Field(
        (1.0, 1.0), description="share of the style in each pixel, drawn evenly: 0 = the source, 1 = full style"
    )
    min_side_px: int = Field(
        1, ge=1, le=512, description="an image with a shorter side is enlarged first, 2 to 4 times, and brought back"
    )


class FastStyle(Operator):
    """Stylise images of any size: [N, H, W, 1 or 3] uint8 -> [N, H, W, 3] uint8 RGB; grey is spread over RGB first.

    Draws `alpha`. An image that comes out not finite is rejected as `non_finite`, black. `load` raises ModelError
    where the file holds something else than such a network.
    """

    name = "fast_style"
    version = 2  # 1 did not fold convolutions, and so took other sums
    source = "Johnson, Alahi & Fei-Fei 2016, Perceptual Losses for Real-Time Style Transfer and Super-Resolution"
    Params = FastStyleParams
    micro_batch = 32
    digital_source_type = "compositeWithTrainedAlgorithmicMedia"
    cpu_s_per_megapixel = 6.0  # of the published widths
    gpu_s_per_megapixel = 0.02
    params: FastStyleParams

    def requirements(self) -> Requirements:
        """The network's file."""
        return Requirements(models={"model": self.params.model})

    def load(self, device: str, assets: Assets) -> None:
        """Load the network."""
        from pipeline.networks.style.fast_style_network import folded, load_network

        self._device, self._dtype = device, assets.dtype
        self._network = folded(load_network(assets.models["model"])).to(device)

    def draw(self, batch: ImageBatch) -> Draws:
        """The share of the style of every sample."""
        low, high = self.params.alpha_range
        return Draws({"alpha": [float(generator.uniform(low, high)) for generator in generators(batch.seeds)]})

    def apply(self, batch: ImageBatch, draws: Draws, noise: Noise) -> Applied:  # noqa: ARG002 - nothing to add
        """Stylise the batch: in one call of the network on a GPU, in parts that fit the caches on a CPU."""
        import torch

        from pipeline.networks.pixel_tensors import enlarged, restored_size, rgb_unit_tensor, unit_tensor_pixels
        from pipeline.networks.precision import autocast
        from pipeline.networks.style.fast_style_network import stylise

        if batch.images is None:
            raise JobError("fast_style: there are no images to stylise; put it after an operator that makes some")
        with torch.inference_mode(), autocast(self._device, self._dtype):
            alpha = torch.tensor(draws.columns["alpha"], dtype=torch.float32, device=self._device)
            content = rgb_unit_tensor(batch.images)
            size = (content.shape[2], content.shape[3])
            on_cpu = torch.device(self._device).type == "cpu"
            part = max(1, CPU_PIXELS_A_CALL // (size[0] * size[1])) if on_cpu else len(batch)
            made = []
            for images, share in zip(torch.split(content, part), torch.split(alpha, part), strict=True):
                large = enlarged(images.to(self._device), self.params.min_side_px)
                made.append(restored_size(stylise(self._network, large, share), size))
            pixels, rejected = unit_tensor_pixels(torch.cat(made))
        return Applied(pixels, rejected=rejected)
