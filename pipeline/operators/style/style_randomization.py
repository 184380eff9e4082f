"""Stylise with random styles: feature statistics drawn from a distribution of styles (Jackson et al. 2018)."""

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from pipeline.contracts import Applied, Assets, Draws, ImageBatch, Requirements
from pipeline.errors import JobError, ModelError
from pipeline.noise import Noise
from pipeline.operators.bases.adain_operator import AdaINOperator, NetworkParameters, constant_statistics, encoder_file
from pipeline.operators.bases.reference_set import ReferenceSet
from pipeline.requirements import Fittable
from pipeline.seeding import generators
from pipeline.validation import ShareRange

BUILTIN_DISTRIBUTION = "builtin:adain-styles"


class StyleRandomizationParams(NetworkParameters):
    """Parameters: the distribution of styles, their strength (alpha), and the networks."""

    distribution: str = Field(
        BUILTIN_DISTRIBUTION, description="a fitted distribution, of the very encoder that is used; or give styles"
    )
    styles: str | None = Field(
        None,
        validate_default=True,
        description="style images that a distribution is fitted to before the run: folder, glob, Parquet set or "
        "builtin:styles",
    )
    rank: int = Field(16, ge=1, le=256, description="directions of the greatest variance that styles are drawn along")
    spread: float = Field(1.0, ge=0, le=4, description="scale of the fitted deviation; 0 = the average style alone")
    alpha_range: ShareRange = Field(
        (0.3, 0.9), description="share of the style, drawn evenly for each image: 0 = content alone, 1 = full style"
    )
    style_size_px: int = Field(256, ge=16, le=4096, description="short side that style images are resized to")

    @field_validator("styles")
    @classmethod
    def _either(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("distribution") != BUILTIN_DISTRIBUTION:
            raise PydanticCustomError("either", "a distribution is given or fitted to styles; remove one of them")
        return value


class StyleRandomization(AdaINOperator, Fittable):
    """Stylise images in random styles: [N, H, W, 1 or 3] uint8 -> [N, H, W, 3] uint8 RGB; grey is spread over RGB.

    Draws `coefficients`, up to `rank` of them, each normal with deviation `spread`: the place of the style in the
    distribution (`pipeline/networks/style/style_distribution.py`); and `alpha`, the share of it, which is the paper's
    mixing with the image's own style. A distribution fitted to `styles` is made once, by `prepare`; units read it, and
    not the images. An image that comes out not finite is rejected as `non_finite`, black. `fit` raises JobError where
    there are fewer than two styles, they are all alike, or one is no image; `load` ModelError where weights are others,
    or the distribution is of another encoder.
    """

    name = "style_randomization"
    version = 2  # 1 did not fold up-sampling into filters, and so took other sums
    source = "Jackson et al. 2018, Style Augmentation: Data Augmentation via Style Randomization, section 3"
    Params = StyleRandomizationParams
    micro_batch = 32
    digital_source_type = "compositeWithTrainedAlgorithmicMedia"
    cpu_s_per_megapixel = 4.0  # of networks of base width 32
    gpu_s_per_megapixel = 0.02
    params: StyleRandomizationParams

    def requirements(self) -> Requirements:
        """One model file or two, and the distribution's file or the images that it is fitted to."""
        if self.params.styles is not None:
            return Requirements(models=self.model_references(), images={"styles": self.params.styles}, fitted=True)
        return Requirements(models={**self.model_references(), "distribution": self.params.distribution})

    def fit(self, assets: Assets) -> bytes:
        """Fit a distribution to the style images, on the CPU."""
        import torch

        from pipeline.networks.pixel_tensors import rgb_unit_tensor, with_short_side
        from pipeline.networks.style.adain import load_encoder, style_statistics
        from pipeline.networks.style.style_distribution import encoder_sha256, fit_distribution
        from pipeline.shards.images.codecs import decode

        field = "style_randomization.styles"
        reference_set = ReferenceSet(field, str(self.params.styles), assets.images["styles"])
        encoder = load_encoder(encoder_file(assets))
        found = []
        with torch.inference_mode():
            for place in range(len(reference_set)):
                image = with_short_side(
                    rgb_unit_tensor(reference_set.pixels(place, decode)[None]), self.params.style_size_px
                )
                found.append(style_statistics(encoder, image))
            try:
                return fit_distribution(found, self.params.rank, encoder_sha256(encoder)).to_bytes()
            except ModelError as error:
                raise JobError(f"{field} = {self.params.styles!r}: {error}") from None

    def load(self, device: str, assets: Assets) -> None:
        """Load both networks and the distribution."""
        from pipeline.networks.style.style_distribution import read_distribution

        encoder = self.load_networks(device, assets)
        if self.params.styles is not None:
            where, data = self.params.styles, assets.fitted
        else:
            where, data = self.params.distribution, assets.models["distribution"].read_bytes()
        if data is None:
            raise RuntimeError("style_randomization: fit comes before load; no distribution was fitted yet")
        self._distribution = read_distribution(data, where, encoder)

    def draw(self, batch: ImageBatch) -> Draws:
        """The style's coefficients, and its share, of every sample."""
        count = min(self.params.rank, self._distribution.rank)
        own = generators(batch.seeds)
        coefficients = [(self.params.spread * generator.standard_normal(count)).tolist() for generator in own]
        low, high = self.params.alpha_range
        return Draws(
            {"coefficients": coefficients, "alpha": [float(generator.uniform(low, high)) for generator in own]}
        )

    def apply(self, batch: ImageBatch, draws: Draws, noise: Noise) -> Applied:  # noqa: ARG002 - nothing to add
        """Stylise each image with its drawn statistics."""
        import torch

        coefficients = torch.tensor(draws.columns["coefficients"], dtype=torch.float64)
        mean, deviation = (values.to(self._device) for values in self._distribution.statistics(coefficients))
        return self.stylise_batch(batch, draws.columns["alpha"], constant_statistics(mean, deviation))
