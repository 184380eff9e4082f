"""A decoder found by least squares: each layer solved, one after another, to undo the encoder's layer it mirrors.

The solved decoder gives back a soft but rightly coloured image at once, which gradient descent from random weights
needs thousands of steps for on so deep a plain network.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.networks.style import adain

RIDGE = 1e-3  # relative to the mean squared patch value


@torch.no_grad()
def solve_decoder(encoder: nn.Sequential, batches: list[Tensor], positions: int = 24_000) -> nn.Sequential:
    """The decoder that mirrors `encoder`, fitted on images [N, 3, H, W] in [0, 1], H and W multiples of 16.

    positions: how many patches each layer is solved on, shared evenly by the batches, drawn with a fixed seed.
    """
    decoder = adain.build_decoder(encoder[2].out_channels, len(adain.encode_levels(encoder, batches[0]))).eval()
    targets = [_mirrored_targets(encoder, batch) for batch in batches]
    signals = [encoder(batch) for batch in batches]
    generator = torch.Generator().manual_seed(0)
    solved = 0
    for module in decoder:
        if not isinstance(module, nn.Conv2d):
            signals = [module(signal) for signal in signals]
            continue
        wanted = [target[solved] for target in targets]
        patches, values = _samples(signals, wanted, positions // len(batches), generator)
        _solve(module, patches, values)
        signals = [module(signal) for signal in signals]
        solved += 1
    return decoder


def _mirrored_targets(encoder: nn.Sequential, images: Tensor) -> list[Tensor]:
    """What each decoder convolution is to give: the input of the encoder's convolution that it mirrors, deepest first.

    The input of the first 3x3 convolution is the image itself: the 1x1 convolution before it is undone as well.
    """
    inputs = [images]
    signal = encoder[0](images)
    for module in encoder[1:]:
        signal = module(signal)
        if isinstance(module, nn.MaxPool2d):
            inputs[-1] = signal
        elif isinstance(module, nn.ReLU):
            inputs.append(signal)
    return inputs[-2::-1]


def _samples(
    signals: list[Tensor], wanted: list[Tensor], count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """3x3 patches of padded signals with a one behind [M, 9C + 1], and the values wanted at their centres [M, C']."""
    patches, values = [], []
    for signal, target in zip(signals, wanted, strict=True):
        unfolded = F.unfold(signal, 3).transpose(1, 2).flatten(0, 1)
        chosen = torch.randperm(len(unfolded), generator=generator)[:count]
        patches.append(unfolded[chosen])
        values.append(target.flatten(2).transpose(1, 2).flatten(0, 1)[chosen])
    both = torch.cat(patches)
    return torch.cat([both, torch.ones(len(both), 1)], dim=1), torch.cat(values)


def _solve(layer: nn.Conv2d, patches: Tensor, values: Tensor) -> None:
    """Ridge regression of the values on the patches, written into the layer."""
    # Solved in float64: the Gram matrix of overlapping patches is nearly singular.
    gram = (patches.T @ patches).double()
    gram += RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=torch.float64)
    solution = torch.linalg.solve(gram, (patches.T @ values).double()).float()
    layer.weight.copy_(solution[:-1].T.reshape(layer.weight.shape))
    layer.bias.copy_(solution[-1])  # type: ignore[union-attr]
