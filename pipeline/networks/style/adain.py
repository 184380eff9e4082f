"""AdaIN: arbitrary style transfer by moving the channel statistics of features (Huang & Belongie 2017).

Paper: "Arbitrary Style Transfer in Real-time with Adaptive Instance Normalization", ICCV 2017, arXiv:1703.06868.
Encoder and decoder have the module layout of the published PyTorch weights, so that `vgg_normalised.pth` and
`decoder.pth` load as they are; the base width w (64 there) sets the channels w, 2w, 4w, 8w of the four levels. A
network may end one level earlier, at relu3_1 (`levels` 3): sharper, and faster; the embedded one does.
Images are RGB in [0, 1], float [N, 3, H, W]; the encoder's first 1x1 convolution does all input normalisation.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.errors import ModelError
from pipeline.model_files import weights

EPSILON = 1e-5  # inside the root of the standard deviation
STRIDE = 8  # three poolings: a decoded image has a multiple of 8 pixels on each side
MIN_SIDE = 16  # below it relu4_1 has one position, which can be neither reflected nor given a deviation
LEVEL_ENDS = (4, 11, 18, 31)  # modules up to and with relu1_1, relu2_1, relu3_1, relu4_1

# Channels as multiples of the base width (0 stands for RGB); "pool" and "up" halve and double the resolution.
_ENCODER = ((0, 1), (1, 1), "pool", (1, 2), (2, 2), "pool", (2, 4), (4, 4), (4, 4), (4, 4), "pool", (4, 8))
_DECODER = ((8, 4), "up", (4, 4), (4, 4), (4, 4), (4, 2), "up", (2, 2), (2, 1), "up", (1, 1), (1, 0))
_DECODER_OF_THREE = 16  # modules
_LAST_OF_THREE = "15.weight"  # the last convolution of a decoder of 3 levels


def _layers(plan: Sequence[str | tuple[int, int]], width: int) -> Iterator[nn.Module]:
    for item in plan:
        if isinstance(item, tuple):
            inward, outward = item
            yield nn.ReflectionPad2d(1)
            yield nn.Conv2d(inward * width or 3, outward * width or 3, 3)
            yield nn.ReLU()
        elif item == "pool":
            yield nn.MaxPool2d(2, 2, ceil_mode=True)
        else:
            yield nn.Upsample(scale_factor=2, mode="nearest")


def build_encoder(width: int = 64, levels: int = 4) -> nn.Sequential:
    """VGG-19 up to relu4_1, 31 modules: [N, 3, H, W] in [0, 1] -> [N, 8 * width, ceil(H/8), ceil(W/8)].

    With 3 levels up to relu3_1, 18 modules: -> [N, 4 * width, ceil(H/4), ceil(W/4)].
    """
    return nn.Sequential(nn.Conv2d(3, 3, 1), *_layers(_ENCODER, width))[: LEVEL_ENDS[levels - 1]]


def build_decoder(width: int = 64, levels: int = 4) -> nn.Sequential:
    """The encoder mirrored, 29 modules: [N, 8 * width, h, w] -> [N, 3, 8h, 8w], not clamped.

    With 3 levels 16 modules: [N, 4 * width, h, w] -> [N, 3, 4h, 4w].
    """
    plan = _DECODER if levels == 4 else _DECODER[5:]
    return nn.Sequential(*list(_layers(plan, width))[:-1])


def encode_levels(encoder: nn.Sequential, images: Tensor) -> list[Tensor]:
    """Features at relu1_1, relu2_1, relu3_1 and, if it has it, relu4_1: [N, w, H, W] ... [N, 8w, H/8, W/8]."""
    levels = []
    start = 0
    for end in (end for end in LEVEL_ENDS if end <= len(encoder)):
        for module in encoder[start:end]:
            images = module(images)
        levels.append(images)
        start = end
    return levels


def mean_std(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over positions, each [N, C, 1, 1], of [N, C, H, W] (equations 5 and 6).

    The variance is unbiased and 1e-5 is added inside the root. One position alone has variance 0 here.
    """
    count = features.shape[2] * features.shape[3]
    mean = features.mean(dim=(2, 3), keepdim=True)
    variance = (features - mean).square().sum(dim=(2, 3), keepdim=True) / max(count - 1, 1)
    return mean, (variance + EPSILON).sqrt()


def adain(content: Tensor, style_mean: Tensor, style_std: Tensor) -> Tensor:
    """Content features [N, C, H, W] with the style's mean and deviation [N or 1, C, 1, 1] (equation 8).

    Linear in (style_mean, style_std): a weighted sum of several styled features is the feature of the weighted sums.
    """
    mean, std = mean_std(content)
    return (content - mean) / std * style_std + style_mean


def content_loss(features: Tensor, target: Tensor) -> Tensor:
    """Mean squared distance of relu4_1 features to the target t (equation 12). Scalar."""
    return F.mse_loss(features, target)


def style_loss(levels: Sequence[Tensor], styles: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Squared distances of mean and deviation, averaged in each level and summed over levels (equation 13). Scalar.

    levels: features of the output, [N, C_i, H_i, W_i]; styles: (mean, std) of the style, each [N, C_i, 1, 1].
    """
    total = levels[0].new_zeros(())
    for level, (style_mean, style_std) in zip(levels, styles, strict=True):
        mean, std = mean_std(level)
        total = total + F.mse_loss(mean, style_mean) + F.mse_loss(std, style_std)
    return total


def pad_to_stride(images: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """Pad [N, C, H, W] on all sides to multiples of 8, at least 16; also the (top, left) offset of the image.

    Reflection where the side is longer than its padding, replication where it is not (images of a few pixels).
    """
    height, width = images.shape[-2:]
    if height < 1 or width < 1:
        raise ValueError(f"image of {height} x {width} px: each side needs 1 px at least")
    top, bottom = _margins(height)
    left, right = _margins(width)
    images = F.pad(images, (left, right, 0, 0), mode="reflect" if right < width else "replicate")
    images = F.pad(images, (0, 0, top, bottom), mode="reflect" if bottom < height else "replicate")
    return images, (top, left)


def _margins(side: int) -> tuple[int, int]:
    missing = max(MIN_SIDE, -(-side // STRIDE) * STRIDE) - side
    return missing // 2, missing - missing // 2


def style_statistics(encoder: nn.Module, styles: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation at relu4_1 of style images [N, 3, H, W] in [0, 1] of any size: each [N, 8w, 1, 1]."""
    padded, _ = pad_to_stride(styles)
    return mean_std(encoder(padded))


def stylise(
    encoder: nn.Module,
    decoder: nn.Module,
    content: Tensor,
    style_mean: Tensor,
    style_std: Tensor,
    alpha: Tensor,
) -> Tensor:
    """Stylised images [N, 3, H, W] in [0, 1], of the size of the content, whatever it is (equation 14).

    content: [N, 3, H, W] in [0, 1]; style_mean, style_std: [N or 1, 8w, 1, 1] from `style_statistics`;
    alpha: [N], 0 = plain reconstruction, 1 = full style; it mixes features, not pixels.
    """
    padded, (top, left) = pad_to_stride(content)
    features = encoder(padded)
    share = alpha.to(features).view(-1, 1, 1, 1)
    mixed = share * adain(features, style_mean, style_std) + (1 - share) * features
    height, width = content.shape[-2:]
    made: Tensor = decoder(mixed)[:, :, top : top + height, left : left + width]
    return made.clamp(0, 1)


def load_encoder(path: str | Path) -> nn.Sequential:
    """Frozen encoder in eval mode from a file of its own (53 modules are cut to 31) or one with both networks.

    Width and levels are read from the shapes. Raises ModelError for weights of any other architecture.
    """
    state = _part(path, "encoder.")
    levels = 4 if any((_index(name) or 0) >= LEVEL_ENDS[2] for name in state) else 3
    kept = {name: value for name, value in state.items() if not (_index(name) or 0) >= LEVEL_ENDS[levels - 1]}
    return _filled(path, "encoder", build_encoder, kept, _width(kept, "2.weight", axis=0), levels)


def load_decoder(path: str | Path) -> nn.Sequential:
    """Frozen decoder in eval mode, as `load_encoder`."""
    state = _part(path, "decoder.")
    levels = 3 if _LAST_OF_THREE in state and "28.weight" not in state else 4
    last = _LAST_OF_THREE if levels == 3 else "28.weight"
    return _filled(path, "decoder", build_decoder, state, _width(state, last, axis=1), levels)


def check_pair(encoder: nn.Sequential, decoder: nn.Sequential, *paths: str | Path) -> None:
    """Raise ModelError unless the decoder takes what the encoder gives: as many channels, of as many levels."""
    last, first = cast(nn.Conv2d, encoder[-2]), cast(nn.Conv2d, decoder[1])
    given, taken = last.out_channels, first.in_channels
    if given != taken or (len(encoder) == LEVEL_ENDS[2]) != (len(decoder) == _DECODER_OF_THREE):
        both = " and ".join(dict.fromkeys(str(path) for path in paths))
        raise ModelError(
            f"weights {both}: the encoder gives {given} channels and the decoder takes {taken}, or they end at "
            "different levels; give two that were trained together"
        )


def save_networks(path: str | Path, encoder: nn.Sequential, decoder: nn.Sequential) -> None:
    """Both networks in one safetensors file, under `encoder.` and `decoder.`, as float16."""
    both = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    both |= {f"decoder.{name}": value for name, value in decoder.state_dict().items()}
    weights.save_state(path, both, torch.float16)


def _part(path: str | Path, prefix: str) -> weights.State:
    state = weights.load_state(path)
    return weights.under_prefix(state, prefix) or state


def _index(name: str) -> int | None:
    head = name.split(".", 1)[0]
    return int(head) if head.isdecimal() else None


def _width(state: Mapping[str, Tensor], name: str, axis: int) -> int:
    weight = state.get(name)
    return int(weight.shape[axis]) if weight is not None and weight.ndim == 4 else 0


def _filled(
    path: str | Path,
    part: str,
    build: Callable[[int, int], nn.Sequential],
    state: weights.State,
    width: int,
    levels: int,
) -> nn.Sequential:
    if width < 1:
        raise ModelError(f"weights {path}: no AdaIN {part} in it (its layers have other names or shapes)")
    return weights.fill(build(width, levels), state, path, f"an AdaIN {part}")
