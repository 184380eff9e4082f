"""The encoder of the embedded AdaIN model: random filters beside channels that pass the image through.

Textures need no trained features: the statistics of random filters describe them well (Ustyuzhaninov et al. 2017,
"What does it take to generate natural textures?", ICLR). But colour has to get through all layers, and a decoder has
to find the image again. So in each layer the channels that came in go on as they are (RGB first, then 1 - RGB,
which keeps dark places through the max-poolings), and the filters added to them see differences alone.
"""

import torch
from torch import Tensor, nn

from pipeline.networks.style.adain import build_encoder

PASSED = 6  # channels of the image: RGB and 1 - RGB
MIXED = 0.1  # weight of the other channels in a channel that passes through
KEPT_MEAN = 0.1  # share of its mean that a random filter keeps


@torch.no_grad()
def pass_through_encoder(width: int, levels: int, seed: int) -> nn.Sequential:
    """An encoder of the layout of `pipeline.networks.style.adain`, a pure function of its arguments; `width` >= 6."""
    if width < PASSED:
        raise ValueError(f"width {width}: the image alone takes {PASSED} channels")
    generator = torch.Generator().manual_seed(seed)
    encoder = build_encoder(width, levels).eval()
    encoder[0].weight.copy_(torch.eye(3).view(3, 3, 1, 1))
    encoder[0].bias.zero_()
    for index in filters(encoder):
        layer = encoder[index]
        nn.init.kaiming_normal_(layer.weight, generator=generator)
        layer.weight.sub_((1 - KEPT_MEAN) * layer.weight.mean(dim=(2, 3), keepdim=True))
        layer.bias.zero_()
        if layer.in_channels == 3:
            layer.weight[:PASSED] = 0
            layer.bias[3:PASSED] = 1
            for channel in range(3):
                layer.weight[channel, channel, 1, 1] = 1
                layer.weight[3 + channel, channel, 1, 1] = -1
        else:
            through = min(layer.in_channels, layer.out_channels)
            layer.weight[:through] *= MIXED
            for channel in range(through):
                layer.weight[channel, channel, 1, 1] += 1
    return encoder


@torch.no_grad()
def normalise_activations(encoder: nn.Sequential, batches: list[Tensor]) -> None:
    """Scale every filter, in place, so that its mean activation is 1 (Gatys et al. 2016, section 2).

    A ReLU network computes the same up to these factors, and all channels count alike in the style loss.
    batches: images [N, 3, H, W] in [0, 1] of any sizes. Filters that never fire stay as they are.
    """
    signals, start = batches, 0
    every = filters(encoder)
    for index in every:
        layer, signals = encoder[index], [encoder[start : index + 2](signal) for signal in signals]
        total = torch.stack([signal.mean(dim=(2, 3)).sum(dim=0) for signal in signals]).sum(dim=0)
        mean = total / sum(len(signal) for signal in signals)
        mean = torch.where(mean > 1e-4, mean, torch.ones_like(mean))
        layer.weight.div_(mean.view(-1, 1, 1, 1))
        layer.bias.div_(mean)
        signals = [signal / mean.view(1, -1, 1, 1) for signal in signals]
        start = index + 2
        following = next((later for later in every if later > index), None)
        if following is not None:
            encoder[following].weight.mul_(mean.view(1, -1, 1, 1))


def filters(encoder: nn.Sequential) -> list[int]:
    """Places of the 3x3 convolutions."""
    return [index for index, module in enumerate(encoder) if isinstance(module, nn.Conv2d) and index > 0]
