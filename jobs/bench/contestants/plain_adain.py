"""AdaIN in plain PyTorch, in the published layout, for the contestants; the style is encoded once, or in every call.

Imports nothing of the product. Layers are written as one word each: `3:64` a reflection-padded 3x3 convolution and its
ReLU, `P` a pooling, `U` an up-sampling.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from jobs.bench.contestants.task import Models

ENCODER = (
    "3:64 64:64 P 64:128 128:128 P 128:256 256:256 256:256 256:256 P 256:512 "
    "512:512 512:512 512:512 P 512:512 512:512 512:512 512:512"
)
DECODER = "512:256 U 256:256 256:256 256:256 256:128 U 128:128 128:64 U 64:64 64:3"
USED = 31  # modules of the encoder up to relu4_1, of 53
SEED = 0


def layers(words: str) -> list[nn.Module]:
    """Return the modules that `words` stand for."""
    made: list[nn.Module] = []
    for word in words.split():
        if word == "P":
            made.append(nn.MaxPool2d(2, stride=2, ceil_mode=True))
        elif word == "U":
            made.append(nn.Upsample(scale_factor=2))
        else:
            inward, outward = map(int, word.split(":"))
            made += [nn.ReflectionPad2d(1), nn.Conv2d(inward, outward, 3), nn.ReLU()]
    return made


def encoder() -> nn.Sequential:
    """All 53 modules; [N, 3, H, W] in [0, 1]."""
    return nn.Sequential(nn.Conv2d(3, 3, 1), *layers(ENCODER))


def decoder() -> nn.Sequential:
    """29 modules: no ReLU behind the last convolution."""
    return nn.Sequential(*layers(DECODER)[:-1])


def save_random(folder: Path) -> None:
    """Write `vgg_normalised.pth` and `decoder.pth` with random weights that keep the scale (He et al. 2015)."""
    generator = torch.Generator().manual_seed(SEED)
    networks = {"vgg_normalised.pth": encoder(), "decoder.pth": decoder()}
    for name, network in networks.items():
        for module in network:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, generator=generator)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        torch.save(network.state_dict(), folder / name)


def mean_std(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation over the positions of [N, C, H, W], each [N, C, 1, 1]."""
    variance, mean = torch.var_mean(features, dim=(2, 3), keepdim=True)
    return mean, (variance + 1e-5).sqrt()


class AdaINStyliser:
    """Full AdaIN towards one style: [N, H, W, 3] uint8 -> the same. With `anew` each call encodes the style again."""

    def __init__(self, models: Models, threads: int = 1, anew: bool = False, device: str = "cpu") -> None:
        torch.set_num_threads(threads)
        self._device = device
        whole, self._decoder = encoder(), decoder()
        whole.load_state_dict(torch.load(models.encoder, weights_only=True))
        self._decoder.load_state_dict(torch.load(models.decoder, weights_only=True))
        self._encoder = whole[:USED].eval().to(device)
        self._decoder.eval().to(device)
        self._style = np.array(Image.open(models.style).convert("RGB"))[None]
        self._kept = None if anew else self._statistics(self._style)

    def _statistics(self, images: npt.NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        with torch.inference_mode():
            return mean_std(self._encoder(self._tensor(images)))

    def __call__(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        with torch.inference_mode():
            style_mean, style_deviation = self._kept or self._statistics(self._style)
            features = self._encoder(self._tensor(images))
            mean, deviation = mean_std(features)
            made = self._decoder((features - mean) / deviation * style_deviation + style_mean)
            grey_levels = made.clamp(0, 1).mul(255).round().byte()
            pixels: npt.NDArray[np.uint8] = grey_levels.permute(0, 2, 3, 1).contiguous().cpu().numpy()
            return pixels

    def _tensor(self, images: npt.NDArray[np.uint8]) -> Tensor:
        return (
            torch.from_numpy(np.require(images, requirements=["W"])).to(self._device).permute(0, 3, 1, 2).float() / 255
        )
