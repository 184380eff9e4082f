"""AdaIN by region: each part of an image takes a style of its own, or keeps what it has.

Huang & Belongie 2017 (arXiv:1703.06868), section 7.3, spatial control: AdaIN is done separately in each region of the
content's features, with the statistics of the features inside that region alone.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.networks.style.adain import EPSILON, pad_to_stride

Statistics = tuple[Tensor, Tensor]
"""Mean and deviation of a style at the encoder's last layer, each [N or 1, C, 1, 1]."""
MIN_SHARE = 1e-6  # of a position: below it a region is empty, and nothing takes its statistics


def region_mean_std(features: Tensor, shares: Tensor) -> Statistics:
    """Mean and deviation, each [N, C, 1, 1], of features [N, C, h, w] over a region, shares [N, 1, h, w] in [0, 1].

    The weighted forms of equations 5 and 6: with shares of 1 alone they are `adain.mean_std`, whose unbiased divisor
    H W - 1 becomes V1 - V2 / V1 (sums of the shares and of their squares). An empty region has mean 0.
    """
    total = shares.sum(dim=(2, 3), keepdim=True)
    mean = (features * shares).sum(dim=(2, 3), keepdim=True) / total.clamp_min(MIN_SHARE)
    divisor = total - shares.square().sum(dim=(2, 3), keepdim=True) / total.clamp_min(MIN_SHARE)
    squares = ((features - mean).square() * shares).sum(dim=(2, 3), keepdim=True)
    variance = squares / divisor.clamp_min(MIN_SHARE)  # of one position alone: 0 over a little
    return mean, (variance + EPSILON).sqrt()


def feature_shares(regions: Tensor, size: tuple[int, int]) -> Tensor:
    """How much of each feature's block of pixels lies in a region: [N, R, H, W] in [0, 1] -> [N, R, h, w].

    The regions are padded to the stride as their images are, and averaged over blocks.
    """
    padded, _ = pad_to_stride(regions)
    return F.interpolate(padded, size, mode="area")


def stylise_regions(
    encoder: nn.Module,
    decoder: nn.Module,
    content: Tensor,
    regions: Tensor,
    styles: Sequence[Statistics],
    alpha: Tensor,
) -> Tensor:
    """Stylised images [N, 3, H, W] in [0, 1], of the size of the content.

    content: [N, 3, H, W] in [0, 1]; regions: [N, R, H, W] in [0, 1], their sum at most 1 at each pixel: what is in
    none of them keeps its features; styles: R of them; alpha: [N], as in `adain.stylise`.
    """
    padded, (top, left) = pad_to_stride(content)
    features = encoder(padded)
    shares = feature_shares(regions, (features.shape[2], features.shape[3]))
    strength = alpha.to(features).view(-1, 1, 1, 1)
    mixed = features
    for index, (style_mean, style_std) in enumerate(styles):
        share = shares[:, index : index + 1]
        mean, std = region_mean_std(features, share)
        moved = (features - mean) / std * style_std + style_mean
        mixed = mixed + strength * share * (moved - features)
    height, width = content.shape[-2:]
    made: Tensor = decoder(mixed)[:, :, top : top + height, left : left + width]
    return made.clamp(0, 1)
