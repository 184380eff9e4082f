"""Give an image a share of another row's style, and keep its content and label (MixStyle, Zhou et al. 2021)."""

from typing import Any

import numpy as np
from pydantic import Field

from pipeline.contracts import Applied, Assets, Draws, ImageBatch, Requirements
from pipeline.noise import Noise
from pipeline.operators.bases.adain_operator import AdaINOperator, NetworkParameters, constant_statistics
from pipeline.requirements import NO_PARTNER, required_partners
from pipeline.seeding import generators


class MixStyleParams(NetworkParameters):
    """How much of the other row's style, and by which networks."""

    beta: float = Field(
        0.3,
        ge=0.01,
        le=100,
        description="both parameters of the Beta distribution that the other's share is drawn from: small = nearly all "
        "or nearly nothing, 1 = evenly, large = about half",
    )


class MixStyle(AdaINOperator):
    """Mix the style of each image with that of another row of its unit: [N, H, W, 1 or 3] uint8 -> [N, H, W, 3] uint8.

    Mean and deviation of the image's features become (1 - alpha) times their own and alpha times the other's (sections
    2.1 and 2.2, with alpha for 1 - lambda), in the AdaIN encoder's last layer, and are decoded to an image; the paper
    does it inside the classifier. Content and label stay. Draws `alpha`, from Beta(beta, beta), and `partner_row`, also
    a partner with role `style`; the runner draws it by seed from the usable rows of the image's window and of the one
    before. An image whose unit has no other usable row is rejected as `no_partner`, one that comes out not finite as
    `non_finite`, black. `load` raises ModelError where the weights are of another architecture.
    """

    name = "mix_style"
    version = 2  # 1 did not fold up-sampling into filters, and so took other sums
    source = "Zhou et al. 2021, Domain Generalization with MixStyle, section 2"
    Params = MixStyleParams
    micro_batch = 32
    digital_source_type = "compositeWithTrainedAlgorithmicMedia"
    partner = "style"
    cpu_s_per_megapixel = 5.5  # of networks of base width 32: two images are encoded, one is decoded
    gpu_s_per_megapixel = 0.03
    params: MixStyleParams

    def requirements(self) -> Requirements:
        """One model file or two."""
        return Requirements(models=self.model_references())

    def load(self, device: str, assets: Assets) -> None:
        """Load both networks."""
        self.load_networks(device, assets)

    def draw(self, batch: ImageBatch) -> Draws:
        """Draw alpha, the share of the other row's style; the runner has chosen that row."""
        rows = required_partners(batch.partners)
        alpha = [float(generator.beta(self.params.beta, self.params.beta)) for generator in generators(batch.seeds)]
        numbers = [None if row is None else row.partner.source_row for row in rows]
        columns: dict[str, list[Any]] = {"alpha": alpha, "partner_row": numbers}
        return Draws(columns, [[] if row is None else [row.partner] for row in rows])

    def apply(self, batch: ImageBatch, draws: Draws, noise: Noise) -> Applied:  # noqa: ARG002 - nothing to add
        """Move the statistics of each image towards its partner's."""
        rows, images = required_partners(batch.partners), self.images_of(batch)
        others = [own if row is None else row.pixels for own, row in zip(images, rows, strict=True)]
        mean, deviation = self.style_statistics_of([np.ascontiguousarray(pixels) for pixels in others])
        made = self.stylise_batch(batch, draws.columns["alpha"], constant_statistics(mean, deviation))
        alone = {index: NO_PARTNER for index, row in enumerate(rows) if row is None}
        return Applied(made.images, rejected={**alone, **made.rejected})
