"""VGG features by the names of their layers (Simonyan & Zisserman 2015), from weights in torchvision's layout.

Paper: "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015, arXiv:1409.1556, table 1,
columns D (VGG16) and E (VGG19). A file has `features.N.weight` and `features.N.bias`, N the place in the sequence of
convolutions, rectifiers and poolings; the classifier behind it is not read. Widths are read off the shapes.

Beware of the input range. These weights need RGB in [0, 1], minus `MEAN`, over `STD`; `Vgg` does that itself. Weights
converted from Caffe may have the same names and shapes but need BGR in [0, 255] and other means: they load without an
error and give poor images.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from pipeline.errors import ModelError
from pipeline.model_files import weights

MEAN = (0.485, 0.456, 0.406)  # of RGB in [0, 1] over ImageNet, as torchvision trained with
STD = (0.229, 0.224, 0.225)
DEPTHS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}  # convolutions of each block
MIN_SIDE = 16  # five blocks halve it four times before the last one
Pooling = Literal["max", "average"]


class Vgg(nn.Module):
    """The part of a VGG up to its deepest wanted layer.

    Args:
        widths: channels of each convolution, in order.
        family: `vgg16` or `vgg19`.
        pooling: Gatys et al. 2016 (section 2) found averages to give somewhat more appealing images than maxima.
    """

    def __init__(self, widths: Sequence[int], family: str = "vgg19", pooling: Pooling = "max") -> None:
        super().__init__()
        self.features = nn.Sequential(*_modules(widths, family, pooling))
        self._ends = {layer: place + 1 for layer, place in _places(family) if place < len(self.features)}

    def forward(self, images: Tensor, layers: Sequence[str]) -> list[Tensor]:
        """Features [N, C_l, H_l, W_l] of the named layers, in the order of depth, of images [N, 3, H, W] in [0, 1].

        H and W are 16 or more. A layer of block b has H_l = floor(H / 2^(b - 1)).
        """
        # Made from Python floats here, so that double precision stays double.
        mean, std = (images.new_tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
        signal = (images - mean) / std
        found, start = [], 0
        for end in sorted(self._ends[layer] for layer in layers):
            signal = self.features[start:end](signal)
            found.append(signal)
            start = end
        return found


def load_vgg(
    path: str | Path, layers: Iterable[str], families: Sequence[str] = ("vgg19",), pooling: Pooling = "max"
) -> Vgg:
    """A frozen VGG in eval mode, as deep as `layers` need, from a .safetensors file or a .pth one without pickle.

    Raises ModelError, in one line, for a missing or damaged file, another architecture, or another family.
    """
    state = weights.load_state(path)
    state = weights.under_prefix(state, "features.") or state
    family = "vgg16" if "17.weight" in state else "vgg19"
    if family not in families:
        raise ModelError(f"weights {path}: holds {family}; needed: {' or '.join(families)}")
    places = dict(_places(family))
    unknown = sorted(set(layers) - set(places))
    if unknown:
        raise ModelError(f"weights {path}: {family} has no layer {unknown[0]!r}")
    deepest = max(places[layer] for layer in layers)
    kept = {}
    inward = 3
    for place in (place - 1 for place in places.values() if place <= deepest):
        kept[f"{place}.weight"] = _convolution(path, state, place, inward, family)
        inward = kept[f"{place}.weight"].shape[0]
        kept[f"{place}.bias"] = _bias(path, state, place, inward, family)
    network = Vgg([value.shape[0] for value in kept.values() if value.ndim == 4], family, pooling)
    network.features.load_state_dict(kept)
    return network.requires_grad_(False).eval().to(memory_format=torch.channels_last)


def _convolution(path: str | Path, state: weights.State, place: int, inward: int, family: str) -> Tensor:
    name = f"{place}.weight"
    if name not in state:
        raise ModelError(f"weights {path}: not a {family} of torchvision's layout: features.{name} is missing")
    shape = tuple(state[name].shape)
    if len(shape) != 4 or shape[1:] != (inward, 3, 3):
        wanted = f"(any, {inward}, 3, 3)"
        raise ModelError(f"weights {path}: not a {family}: features.{name} has shape {shape}, not {wanted}")
    return state[name]


def _bias(path: str | Path, state: weights.State, place: int, width: int, family: str) -> Tensor:
    found = state.get(f"{place}.bias")
    if found is None or tuple(found.shape) != (width,):
        raise ModelError(f"weights {path}: not a {family}: features.{place}.bias is missing or not ({width},)")
    return found


def _modules(widths: Sequence[int], family: str, pooling: Pooling) -> Iterator[nn.Module]:
    inward, left = 3, list(widths)
    for depth in DEPTHS[family]:
        for outward in left[:depth]:
            yield nn.Conv2d(inward, outward, 3, padding=1)
            yield nn.ReLU(inplace=True)
            inward = outward
        left = left[depth:]
        if not left:
            return
        yield nn.MaxPool2d(2, 2) if pooling == "max" else nn.AvgPool2d(2, 2)


def _places(family: str) -> Iterator[tuple[str, int]]:
    """Each layer's name, `relu4_2` for instance, and the place of its rectifier in the sequence."""
    place = 0
    for block, depth in enumerate(DEPTHS[family], start=1):
        for number in range(1, depth + 1):
            yield f"relu{block}_{number}", place + 1
            place += 2
        place += 1
