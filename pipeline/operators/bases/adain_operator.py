"""Base of the AdaIN operators: parameters and loading of the two networks, and stylising a batch with them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from pipeline.contracts import Applied, Assets, ImageBatch, Operator, Parameters, Pixels
from pipeline.errors import JobError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pipeline.networks.style.regional_adain import Statistics

    StatisticsOf = Callable[[slice, Tensor], Sequence[Statistics]]
    """Statistics of each region's style, for the images at a place of the batch and their pixels [n, 3, H, W] uint8."""

BUILTIN_MODEL = "builtin:adain"
CPU_PIXELS_A_CALL = 65_536
"""Pixels of one call on a CPU: 4 images of 128 px. Larger calls fall out of the caches and take a quarter longer."""


class NetworkParameters(Parameters):
    """Parameters: which networks, and the smallest image side that they get."""

    renamed: ClassVar[Mapping[str, str]] = {"least_side_px": "min_side_px"}

    min_side_px: int = Field(
        56,
        ge=1,
        le=512,
        description="an image with a shorter side is enlarged before the networks, 2 to 4 times, and brought back",
    )
    model: str = Field(BUILTIN_MODEL, description="both networks: builtin:adain, or a file made by `train adain`")
    encoder: str | None = Field(None, description="encoder alone, as vgg_normalised.pth; together with decoder")
    decoder: str | None = Field(
        None, validate_default=True, description="decoder alone, as decoder.pth; together with encoder"
    )

    @field_validator("decoder")
    @classmethod
    def _paired(cls, value: str | None, info: ValidationInfo) -> str | None:
        encoder = info.data.get("encoder")
        if (encoder is None) != (value is None):
            raise PydanticCustomError("pair", "encoder and decoder are given together; give both or neither")
        if value is not None and info.data.get("model") != BUILTIN_MODEL:
            raise PydanticCustomError("pair", "encoder and decoder replace model; remove model or both of them")
        return value


class AdaINOperator(Operator):
    """Stylises images of any size: [N, H, W, 1 or 3] uint8 -> [N, H, W, 3] uint8 RGB; grey is spread over RGB first."""

    params: NetworkParameters

    def model_references(self) -> dict[str, str]:
        """Return the references of one model file or two, for `requirements`."""
        if self.params.encoder is not None and self.params.decoder is not None:
            return {"encoder": self.params.encoder, "decoder": self.params.decoder}
        return {"model": self.params.model}

    def load_networks(self, device: str, assets: Assets) -> "nn.Sequential":
        """Load both networks, and return the encoder as it is stored, whatever they compute in.

        Raises ModelError where weights are of another architecture, or the two do not fit together.
        """
        from pipeline.networks.folding import fold_doublings
        from pipeline.networks.precision import with_dtype
        from pipeline.networks.style.adain import check_pair, load_decoder, load_encoder

        encoder, decoder = encoder_file(assets), assets.models.get("model") or assets.models["decoder"]
        self._device = device
        networks = load_encoder(encoder).to(device), load_decoder(decoder).to(device)
        check_pair(*networks, encoder, decoder)
        self._encoder = with_dtype(networks[0], assets.dtype)
        self._decoder = with_dtype(fold_doublings(networks[1]), assets.dtype)
        return networks[0]

    def stylise_batch(
        self, batch: ImageBatch, alpha: Sequence[float], statistics: "StatisticsOf", regions: Pixels | None = None
    ) -> Applied:
        """Stylise the batch: in one call of the networks on a GPU, in parts that fit the caches on a CPU.

        An image that comes out not finite is rejected as `non_finite`, black.

        Args:
            alpha: share of the style of each image, in [0, 1].
            regions: [N, R, H, W] uint8, 1 where a region is: as many as `statistics` gives; None: one, everywhere.
        """
        import torch

        from pipeline.networks.pixel_tensors import unit_tensor_pixels

        with torch.inference_mode():
            strength = torch.tensor(alpha, dtype=torch.float32, device=self._device)
            content = as_rgb(self.images_of(batch))
            made = []
            for place in self._slices(len(batch), content.shape[2] * content.shape[3]):
                masks = None if regions is None else torch.from_numpy(regions[place]).to(self._device, torch.float32)
                made.append(self._part(content[place], masks, statistics(place, content[place]), strength[place]))
            pixels, rejected = unit_tensor_pixels(torch.cat(made))
        return Applied(pixels, rejected=rejected)

    def style_statistics_of(self, references: Sequence[Pixels]) -> "Statistics":
        """Return mean and deviation [n, C, 1, 1] of images of any sizes, each enlarged as the input is."""
        import torch

        from pipeline.networks.pixel_tensors import enlarged, rgb_unit_tensor
        from pipeline.networks.style.adain import style_statistics

        by_size: dict[tuple[int, ...], list[int]] = {}
        for index, image in enumerate(references):
            by_size.setdefault(image.shape, []).append(index)
        found: dict[int, tuple[Tensor, Tensor]] = {}
        with torch.inference_mode():
            for (height, width, _), places in by_size.items():
                for some in (places[place] for place in self._slices(len(places), height * width)):
                    images = rgb_unit_tensor(np.stack([references[index] for index in some])).to(self._device)
                    large = enlarged(images, self.params.min_side_px)
                    means, deviations = style_statistics(self._encoder, large)
                    found |= zip(some, zip(means, deviations, strict=True), strict=True)
            in_order = [found[index] for index in range(len(references))]
            mean, deviation = (torch.stack(values) for values in zip(*in_order, strict=True))
        return mean, deviation

    def images_of(self, batch: ImageBatch) -> Pixels:
        """Return the batch's pixels; raises JobError where it has none."""
        if batch.images is None:
            raise JobError(f"{self.name}: there are no images to stylise; put it after an operator that makes some")
        return batch.images

    def _slices(self, count: int, pixels: int) -> list[slice]:
        """Return the slices of `count` images, of `pixels` pixels each, that are one call of the networks each."""
        part = count if self._device != "cpu" else max(1, CPU_PIXELS_A_CALL // pixels)
        return [slice(first, first + part) for first in range(0, count, part)]

    def _part(
        self, content: "Tensor", masks: "Tensor | None", statistics: "Sequence[Statistics]", alpha: "Tensor"
    ) -> "Tensor":
        """Return [n, 3, H, W] float32 in [0, 1] of `content` [n, 3, H, W] uint8."""
        import torch
        import torch.nn.functional as F

        from pipeline.networks.pixel_tensors import enlarged, restored_size
        from pipeline.networks.style.adain import stylise
        from pipeline.networks.style.regional_adain import stylise_regions

        scaled = content.to(self._device).to(torch.float32).div_(255)
        large = enlarged(scaled, self.params.min_side_px)
        if masks is None:
            ((mean, deviation),) = statistics
            made = stylise(self._encoder, self._decoder, large, mean, deviation, alpha)
        else:
            same = F.interpolate(masks, large.shape[-2:], mode="nearest")  # a whole factor, as the images have
            made = stylise_regions(self._encoder, self._decoder, large, same, statistics, alpha)
        return restored_size(made, (scaled.shape[2], scaled.shape[3]))


def constant_statistics(mean: "Tensor", deviation: "Tensor") -> "StatisticsOf":
    """Return a function that gives each image of a batch its own of these statistics [N, C, 1, 1]."""

    def statistics(place: slice, content: "Tensor") -> "list[Statistics]":  # noqa: ARG001 - whatever they are
        return [(mean[place], deviation[place])]

    return statistics


def encoder_file(assets: Assets) -> Path:
    """Return the file that the encoder is in."""
    return assets.models.get("model") or assets.models["encoder"]


def as_rgb(images: Pixels) -> "Tensor":
    """Return a copy of [N, H, W, 1 or 3] as a tensor [N, 3, H, W] uint8, channels last in memory."""
    import torch

    rgb = np.broadcast_to(images, (*images.shape[:3], 3))
    return torch.from_numpy(np.array(rgb, order="C")).permute(0, 3, 1, 2)
