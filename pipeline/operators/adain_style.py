"""Give an image the colours and textures of another one, and keep its content (AdaIN, Huang & Belongie 2017)."""

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from pipeline.contracts import (
    Applied,
    Draws,
    ImageBatch,
    Needs,
    Operator,
    Parameters,
    Partner,
    Pixels,
    ReferenceImage,
    Supply,
)
from pipeline.errors import JobError, RowError
from pipeline.noise import Noise
from pipeline.seeding import generators

if TYPE_CHECKING:
    from torch import Tensor

BUILTIN_MODEL = "builtin:adain"
CPU_PIXELS_A_CALL = 65_536
"""Pixels of one call on a CPU: 4 images of 128 px. Larger calls fall out of the caches and take a quarter longer."""
MAX_STYLE_PIXELS = 100_000_000
MAX_STYLE_ASPECT = 16  # of the long side to the short one: resizing keeps it, so it bounds memory
MOST_ENLARGED = 4
"""Times a small image is enlarged at most: the networks' filters are made for details of several pixels."""
KEY_DIGITS = 16  # of a style's sha256, as it stands in the lineage


class AdaINStyleParams(Parameters):
    """Which styles, how much of them, and by which networks."""

    styles: str = Field("builtin:styles", description="style images: folder, glob, Parquet shard or builtin:styles")
    alpha_range: tuple[float, float] = Field(
        (0.3, 0.9), description="share of the style, drawn evenly for each image: 0 = content alone, 1 = full style"
    )
    style_size_px: int = Field(256, ge=16, le=4096, description="short side that style images are resized to")
    least_side_px: int = Field(
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

    @field_validator("alpha_range")
    @classmethod
    def _ordered(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= value[0] <= value[1] <= 1:
            raise PydanticCustomError("alpha_range", "needs two shares within [0, 1], the smaller one first")
        return value

    @field_validator("decoder")
    @classmethod
    def _paired(cls, value: str | None, info: ValidationInfo) -> str | None:
        encoder = info.data.get("encoder")
        if (encoder is None) != (value is None):
            raise PydanticCustomError("pair", "encoder and decoder are given together; give both or neither")
        if value is not None and info.data.get("model") != BUILTIN_MODEL:
            raise PydanticCustomError("pair", "encoder and decoder replace model; remove model or both of them")
        return value


class AdaINStyle(Operator):
    """Restyle images of any size: [N, H, W, 1 or 3] uint8 -> [N, H, W, 3] uint8 RGB; grey is spread over RGB first.

    Draws `style` (first 16 hex digits of the style's sha256), `style_name` and `alpha`; the style is also a partner.
    An image that comes out not finite is rejected as `non_finite`, black. `load` raises JobError where there is no
    style or one that is no image, ModelError where the weights are others.
    """

    name = "adain_style"
    version = 1
    source = "Huang & Belongie 2017, Arbitrary Style Transfer in Real-time with Adaptive Instance Normalization"
    Params = AdaINStyleParams
    micro_batch = 32
    digital_source_type = "compositeWithTrainedAlgorithmicMedia"
    cpu_s_per_megapixel = 4.0  # of networks of base width 32; 1.5 at 16, 16 at the published 64
    gpu_s_per_megapixel = 0.02
    params: AdaINStyleParams

    def __init__(self, params: AdaINStyleParams) -> None:
        super().__init__(params)
        self._styles: list[_Style] = []
        self._index: dict[str, int] = {}

    def needs(self) -> Needs:
        """The style images, and one model file or two."""
        models = {"model": self.params.model}
        if self.params.encoder is not None and self.params.decoder is not None:
            models = {"encoder": self.params.encoder, "decoder": self.params.decoder}
        return Needs(models=models, images={"styles": self.params.styles})

    def load(self, device: str, supply: Supply) -> None:
        """Load both networks, and encode each style once."""
        import torch

        from pipeline.models.adain import load_decoder, load_encoder, style_statistics

        references = supply.images["styles"]
        if not references:
            raise JobError(f"adain_style.styles = {self.params.styles!r}: there is no image in it; give one or more")
        whole = supply.models.get("model")
        self._device = device
        self._encoder = load_encoder(whole or supply.models["encoder"]).to(device)
        self._decoder = load_decoder(whole or supply.models["decoder"]).to(device)
        means, deviations = [], []
        with torch.inference_mode():
            for reference in references:
                mean, deviation = style_statistics(self._encoder, self._read_style(reference).to(device))
                means.append(mean)
                deviations.append(deviation)
        self._mean, self._deviation = torch.cat(means), torch.cat(deviations)  # [styles, C, 1, 1] each
        self._styles = [_Style(reference) for reference in references]
        self._index = {style.key: index for index, style in enumerate(self._styles)}

    def draw(self, batch: ImageBatch) -> Draws:
        """A style, and its share, of every sample."""
        if not self._styles:
            raise RuntimeError("adain_style: load comes before draw; the styles are not known yet")
        styles, alphas = [], []
        for generator in generators(batch.seeds):
            styles.append(self._styles[int(generator.integers(len(self._styles)))])
            alphas.append(float(generator.uniform(*self.params.alpha_range)))
        columns: dict[str, list[Any]] = {
            "style": [style.key for style in styles],
            "style_name": [style.name for style in styles],
            "alpha": alphas,
        }
        return Draws(columns, partners=[[style.partner] for style in styles])

    def apply(self, batch: ImageBatch, draws: Draws, noise: Noise) -> Applied:  # noqa: ARG002 - nothing to add
        """Restyle the batch: in one call of the networks on a GPU, in parts that fit the caches on a CPU."""
        import torch

        if batch.images is None:
            raise JobError("adain_style: there are no images to restyle; put it after an operator that makes some")
        with torch.inference_mode():
            chosen = torch.tensor([self._place(key) for key in draws.columns["style"]], device=self._device)
            alpha = torch.tensor(draws.columns["alpha"], dtype=torch.float32, device=self._device)
            content = _as_rgb(batch.images)
            _, _, height, width = content.shape
            part = len(batch) if self._device != "cpu" else max(1, CPU_PIXELS_A_CALL // (height * width))
            places = [slice(first, first + part) for first in range(0, len(batch), part)]
            made = torch.cat([self._restyled(content[p], chosen[p], alpha[p]) for p in places])  # [N, 3, H, W]
            finite = made.isfinite().all(dim=(1, 2, 3)).tolist()
            images = made.nan_to_num(0.0).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu()
        rejected = {index: "non_finite" for index, fine in enumerate(finite) if not fine}
        pixels: Pixels = images.numpy()
        for index in rejected:
            pixels[index] = 0
        return Applied(pixels, rejected=rejected)

    def _restyled(self, content: "Tensor", chosen: "Tensor", alpha: "Tensor") -> "Tensor":
        """Return [n, 3, H, W] float32 in [0, 1] of `content` [n, 3, H, W] uint8, styles [n] and shares [n]."""
        import torch
        from torch.nn.functional import interpolate

        from pipeline.models.adain import stylise

        scaled = content.to(self._device).to(torch.float32).div_(255)
        size = scaled.shape[-2:]
        factor = min(MOST_ENLARGED, -(-self.params.least_side_px // min(size)))
        if factor > 1:
            scaled = interpolate(scaled, scale_factor=factor, mode="bicubic").clamp_(0, 1)
        made = stylise(self._encoder, self._decoder, scaled, self._mean[chosen], self._deviation[chosen], alpha)
        return interpolate(made, size, mode="area") if factor > 1 else made

    def _place(self, key: str) -> int:
        if key not in self._index:
            raise JobError(f"adain_style.styles = {self.params.styles!r}: style {key} of the lineage is not in it")
        return self._index[key]

    def _read_style(self, reference: ReferenceImage) -> "Tensor":
        """Return a style image [1, 3, h, w] float32 in [0, 1], its short side `style_size_px`."""
        import torch
        from torch.nn.functional import interpolate

        from pipeline.shards.codecs import decode

        where = f"adain_style.styles: {reference.uri}"
        try:
            pixels = decode(reference.data, MAX_STYLE_PIXELS)
        except RowError as error:
            raise JobError(f"{where}: not usable as a style ({error}); remove or replace it") from error
        height, width = pixels.shape[:2]
        if max(height, width) > MAX_STYLE_ASPECT * min(height, width):
            raise JobError(f"{where}: {width} x {height} px is too narrow for a style; crop it or remove it")
        scale = self.params.style_size_px / min(height, width)
        size = (round(height * scale), round(width * scale))
        image = _as_rgb(pixels[None]).to(torch.float32).div_(255)
        return interpolate(image, size, mode="bilinear", antialias=True).clamp_(0, 1)


class _Style:
    """What the lineage says about a style image."""

    def __init__(self, reference: ReferenceImage) -> None:
        self.key = reference.sha256[:KEY_DIGITS]
        self.name = PurePosixPath(reference.uri).name
        self.partner = Partner(role="style", source_uri=reference.uri, sha256=reference.sha256)


def _as_rgb(images: Pixels) -> "Tensor":
    """Return a copy of [N, H, W, 1 or 3] as a tensor [N, 3, H, W] uint8, channels last in memory."""
    import torch

    rgb = np.broadcast_to(images, (*images.shape[:3], 3))
    return torch.from_numpy(np.array(rgb, order="C")).permute(0, 3, 1, 2)
