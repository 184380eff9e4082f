"""Mixup: each image with another row of its unit, and a label that says how much of each."""

import numpy as np
import numpy.typing as npt
from palimpsest import (
    NO_PARTNER,
    Applied,
    Draws,
    ImageBatch,
    JobError,
    Noise,
    Operator,
    Parameters,
    PartnerRow,
    Pixels,
    generators,
)
from pydantic import Field


class AcmeMixParams(Parameters):
    """How much of the other row."""

    share_range: tuple[float, float] = Field((0.2, 0.8), description="weight of the other row, drawn evenly")


class AcmeMix(Operator):
    """Average each image with a row of another class: [N, H, W, C] uint8 -> the same shape, and soft labels.

    Draws `share`; the other row is a partner with role `mix`, cut or repeated to the image's size. Rejects an image
    whose unit has no row of another class. Raises JobError where the batch has no images or no classes.
    """

    name = "acme_mix"
    version = 1
    source = "Zhang et al. 2018, mixup: Beyond Empirical Risk Minimization"
    Params = AcmeMixParams
    uses_torch = False
    changes_labels = True
    geometric = True
    partner = "mix"
    partner_class = "other"
    params: AcmeMixParams

    def draw(self, batch: ImageBatch) -> Draws:
        """One share a sample, from its own seed, and the partner that the runner drew."""
        low, high = self.params.share_range
        shares = [float(each.uniform(low, high)) for each in generators(batch.seeds)]
        return Draws({"share": shares}, [[] if row is None else [row.partner] for row in batch.partners or ()])

    def apply(self, batch: ImageBatch, draws: Draws, noise: Noise) -> Applied:
        """Mix pixels and labels; the hard label is the larger share's."""
        if batch.images is None or batch.partners is None or not batch.classes:
            raise JobError("acme_mix: needs images, and the names of their classes (input.class_names)")
        images = np.empty_like(batch.images, order="C")
        soft = np.zeros((len(batch), len(batch.classes)), np.float32)
        rejected = {}
        for index, (image, row, share) in enumerate(
            zip(batch.images, batch.partners, draws.columns["share"], strict=True)
        ):
            own = max(0, int(batch.labels[index]))
            if row is None or row.label < 0:
                rejected[index] = NO_PARTNER
                images[index], soft[index, own] = image, 1
                continue
            images[index] = mixed(image, row, share)
            soft[index, own] += 1 - share
            soft[index, row.label] += share
        labels: npt.NDArray[np.int64] = soft.argmax(axis=1).astype(np.int64)
        return Applied(images, labels, soft, rejected)


def mixed(image: Pixels, row: PartnerRow, share: float) -> Pixels:
    """Return an image [H, W, C] uint8 with a share of another row's pixels, repeated or cut to its size."""
    height, width, channels = image.shape
    other = np.resize(np.arange(row.pixels.shape[0]), height), np.resize(np.arange(row.pixels.shape[1]), width)
    pixels = row.pixels[other[0]][:, other[1]].astype(np.float64)
    pixels = pixels.mean(axis=2, keepdims=True) if channels == 1 else np.broadcast_to(pixels, image.shape)
    return np.rint((1 - share) * image + share * pixels).astype(np.uint8)
