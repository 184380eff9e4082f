"""Give an image the colours and textures of another one, and keep its content (AdaIN, Huang & Belongie 2017)."""

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
    Pixels,
    Supply,
)
from pipeline.errors import JobError
from pipeline.models.reference_bank import ReferenceBank
from pipeline.noise import Noise
from pipeline.seeding import generators
from pipeline.validation import ShareRange

if TYPE_CHECKING:
    from torch import Tensor

BUILTIN_MODEL = "builtin:adain"
CPU_PIXELS_A_CALL = 65_536
"""Pixels of one call on a CPU: 4 images of 128 px. Larger calls fall out of the caches and take a quarter longer."""
MOST_ENLARGED = 4
"""Times a small image is enlarged at most: the networks' filters are made for details of several pixels."""


class AdaINStyleParams(Parameters):
    """Which styles, how much of them, and by which networks."""

    styles: str = Field("builtin:styles", description="style images: folder, glob, Parquet shard or builtin:styles")
    alpha_range: ShareRange = Field(
        (0.3, 0.9), description="share of the style, drawn evenly for each image: 0 = content alone, 1 = full style"
    )
    styles_per_image: int = Field(
        1, ge=1, le=8, description="styles mixed in one image, their weights drawn evenly among all that sum to 1"
    )
    preserve_color: bool = Field(
        False,
        description="give each style the colours of the image first (CORAL): texture changes, colour hardly; slower, "
        "as styles can no longer be encoded once for all",
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
    With several styles an image these are lists, and `weights` goes with them: the decoder gets the weighted sum of the
    styled features (paper, section 7.3). `preserve_color` matches each style's colours to the image (section 7.3, by
    CORAL: `pipeline/models/colour.py`). An image that comes out not finite is rejected as `non_finite`, black. `load`
    raises JobError where there is no style or one that is no image, ModelError where the weights are others.
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
        self._bank: ReferenceBank | None = None

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
        from pipeline.models.colour import moments
        from pipeline.models.pictures import unit_rgb, with_short_side
        from pipeline.shards.codecs import decode

        bank = ReferenceBank("adain_style.styles", self.params.styles, supply.images["styles"])
        whole = supply.models.get("model")
        self._device = device
        self._encoder = load_encoder(whole or supply.models["encoder"]).to(device)
        self._decoder = load_decoder(whole or supply.models["decoder"]).to(device)
        originals = [bank.picture(place, decode) for place in range(len(bank))]
        pictures = [with_short_side(unit_rgb(pixels[None]), self.params.style_size_px) for pixels in originals]
        if self.params.preserve_color:  # a style's features depend on the image then
            colours = [moments(np.broadcast_to(pixels, (*pixels.shape[:2], 3))) for pixels in originals]
            self._coloured_styles = list(zip(pictures, colours, strict=True))
        else:
            with torch.inference_mode():
                found = [style_statistics(self._encoder, picture.to(device)) for picture in pictures]
            self._mean, self._deviation = (torch.cat(values) for values in zip(*found, strict=True))
        self._bank = bank

    def draw(self, batch: ImageBatch) -> Draws:
        """A style, and its share, of every sample."""
        bank, count = self._styles(), self.params.styles_per_image
        columns: dict[str, list[Any]] = {"style": [], "style_name": [], "alpha": []}
        partners = []
        for generator in generators(batch.seeds):
            places = [bank.drawn(generator) for _ in range(count)]
            columns["alpha"].append(float(generator.uniform(*self.params.alpha_range)))
            keys, names = [bank.keys[place] for place in places], [bank.names[place] for place in places]
            columns["style"].append(keys if count > 1 else keys[0])
            columns["style_name"].append(names if count > 1 else names[0])
            if count > 1:
                columns.setdefault("weights", []).append(generator.dirichlet(np.ones(count)).tolist())
            partners.append([bank.partners[place] for place in dict.fromkeys(places)])
        return Draws(columns, partners)

    def apply(self, batch: ImageBatch, draws: Draws, noise: Noise) -> Applied:  # noqa: ARG002 - nothing to add
        """Restyle the batch: in one call of the networks on a GPU, in parts that fit the caches on a CPU."""
        import torch

        if batch.images is None:
            raise JobError("adain_style: there are no images to restyle; put it after an operator that makes some")
        bank = self._styles()
        keys = [[style] if isinstance(style, str) else style for style in draws.columns["style"]]
        shares = draws.columns.get("weights", [[1.0]] * len(batch))
        with torch.inference_mode():
            chosen = torch.tensor([[bank.place(key) for key in some] for some in keys], device=self._device)
            weights = torch.tensor(shares, dtype=torch.float32, device=self._device)
            alpha = torch.tensor(draws.columns["alpha"], dtype=torch.float32, device=self._device)
            content = _as_rgb(batch.images)
            _, _, height, width = content.shape
            part = len(batch) if self._device != "cpu" else max(1, CPU_PIXELS_A_CALL // (height * width))
            places = [slice(first, first + part) for first in range(0, len(batch), part)]
            made = torch.cat([self._restyled(content[p], chosen[p], weights[p], alpha[p]) for p in places])
            finite = made.isfinite().all(dim=(1, 2, 3)).tolist()
            images = made.nan_to_num(0.0).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu()
        rejected = {index: "non_finite" for index, fine in enumerate(finite) if not fine}
        pixels: Pixels = images.numpy()
        for index in rejected:
            pixels[index] = 0
        return Applied(pixels, rejected=rejected)

    def _restyled(self, content: "Tensor", chosen: "Tensor", weights: "Tensor", alpha: "Tensor") -> "Tensor":
        """Return [n, 3, H, W] float32 in [0, 1] of `content` [n, 3, H, W] uint8, styles, weights [n, k], alpha [n]."""
        import torch

        from pipeline.models.adain import stylise
        from pipeline.models.pictures import brought_back, enlarged

        scaled = content.to(self._device).to(torch.float32).div_(255)
        large = enlarged(scaled, self.params.least_side_px, MOST_ENLARGED)
        if self.params.preserve_color:
            mean, deviation = self._recoloured(content, chosen)
        else:
            mean, deviation = self._mean[chosen], self._deviation[chosen]
        if chosen.shape[1] > 1:
            mean, deviation = ((weights[:, :, None, None, None] * values).sum(dim=1) for values in (mean, deviation))
        else:
            mean, deviation = mean[:, 0], deviation[:, 0]
        made = stylise(self._encoder, self._decoder, large, mean, deviation, alpha)
        return brought_back(made, (scaled.shape[2], scaled.shape[3]))

    def _recoloured(self, content: "Tensor", chosen: "Tensor") -> "tuple[Tensor, Tensor]":
        """Return means and deviations [n, k, C, 1, 1] of styles that took on the colours of their image first."""
        import torch

        from pipeline.models.adain import style_statistics
        from pipeline.models.colour import coral_map, moments

        found = []
        for pixels, places in zip(content.permute(0, 2, 3, 1).numpy(), chosen.tolist(), strict=True):
            for picture, colours in (self._coloured_styles[place] for place in places):
                matrix, shift = (torch.from_numpy(v).float() for v in coral_map(colours, moments(pixels)))
                style = torch.einsum("ij,njhw->nihw", matrix, picture) + shift.view(1, 3, 1, 1) / 255
                found.append(style_statistics(self._encoder, style.to(self._device)))
        shape = (*chosen.shape, -1, 1, 1)
        mean, deviation = (torch.cat(values).view(shape) for values in zip(*found, strict=True))
        return mean, deviation

    def _styles(self) -> ReferenceBank:
        if self._bank is None:
            raise RuntimeError("adain_style: load comes before draw; the styles are not known yet")
        return self._bank


def _as_rgb(images: Pixels) -> "Tensor":
    """Return a copy of [N, H, W, 1 or 3] as a tensor [N, 3, H, W] uint8, channels last in memory."""
    import torch

    rgb = np.broadcast_to(images, (*images.shape[:3], 3))
    return torch.from_numpy(np.array(rgb, order="C")).permute(0, 3, 1, 2)
