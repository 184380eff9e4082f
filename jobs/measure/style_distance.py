"""How far AdaIN moves images towards a style, and what it costs in time.

`python -m jobs.measure.style_distance --photographs GLOB --small IDX [--model F] [--styles DIR]`
prints one JSON object. Distances are between channel means and deviations of features, in three feature spaces; the
fall is 1 - distance(stylised, style) / distance(content, style), so 0 = no style, 1 = its exact statistics.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jobs.train.data.images import load_images
from pipeline.networks.style import adain

ASSETS = Path(__file__).parents[2] / "pipeline" / "assets"
PHOTOGRAPH_PX, STYLE_PX = 128, 256
ALPHAS = (0.0, 0.5, 1.0)
Space = Callable[[Tensor], list[Tensor]]  # images [N, 3, H, W] in [0, 1] -> features of each level


def encoder_space(encoder: nn.Sequential) -> Space:
    """The four levels of an encoder."""
    return lambda images: adain.encode_levels(encoder, adain.pad_to_stride(images)[0])


def random_space(seed: int = 0) -> Space:
    """The reference layout at width 64 with He-normal weights: features that nobody trained."""
    encoder = adain.build_encoder(64).eval()
    generator = torch.Generator().manual_seed(seed)
    for layer in encoder:
        if isinstance(layer, nn.Conv2d):
            deviation = (2 / layer.weight[0].numel()) ** 0.5
            layer.weight.data = torch.randn(layer.weight.shape, generator=generator) * deviation
            layer.bias.data.zero_()  # type: ignore[union-attr]
    return encoder_space(encoder)


def gabor_space(side: int = 11) -> Space:
    """Luma and two colour differences, and on each the amplitudes of Gabor filters: 4 wavelengths x 6 directions."""
    y, x = np.mgrid[-(side // 2) : side // 2 + 1, -(side // 2) : side // 2 + 1]
    filters = []
    for wavelength in (2.5, 4.0, 6.0, 9.0):
        for angle in np.arange(6) * np.pi / 6:
            envelope = np.exp(-(x**2 + y**2) / (2 * (0.5 * wavelength) ** 2))
            wave = np.exp(2j * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / wavelength) * envelope
            wave = wave - envelope * wave.sum() / envelope.sum()
            filters += [part / np.abs(wave).sum() for part in (wave.real, wave.imag)]
    kernels = torch.from_numpy(np.stack(filters)[:, None]).float()
    mix = torch.tensor([[0.299, 0.587, 0.114], [0.5, -0.5, 0.0], [0.25, 0.25, -0.5]])

    def features(images: Tensor) -> list[Tensor]:
        planes = torch.einsum("ij,njhw->nihw", mix, images)
        padded = F.pad(planes, (side // 2,) * 4, mode="reflect")
        both = torch.cat([F.conv2d(padded[:, k : k + 1], kernels) for k in range(3)], dim=1)
        pairs = both.unflatten(1, (-1, 2)).square().sum(dim=2).sqrt()
        return [planes, pairs]

    return features


def moments(space: Space, images: Tensor) -> list[Tensor]:
    """Means and deviations of each level, [N, 2C]."""
    return [torch.cat(adain.mean_std(level), dim=1).flatten(1) for level in space(images)]


def distance(one: list[Tensor], other: list[Tensor]) -> Tensor:
    """Euclidean distance in each level [N, levels], the second argument one row or as many."""
    return torch.stack([(a - b).norm(dim=1) for a, b in zip(one, other, strict=True)], dim=1)


@torch.inference_mode()
def distance_reductions(
    networks: tuple[nn.Sequential, nn.Sequential], content: Tensor, styles: Tensor
) -> dict[str, dict[str, float]]:
    """Fall of the distance, a mean over styles and levels, by feature space and alpha."""
    encoder, decoder = networks
    spaces = {"own": encoder_space(encoder), "random_vgg": random_space(), "gabor": gabor_space()}
    result: dict[str, dict[str, float]] = {name: {} for name in spaces}
    means, deviations = adain.style_statistics(encoder, styles)
    for alpha in ALPHAS:
        made = [
            adain.stylise(encoder, decoder, content, mean[None], deviation[None], torch.full((len(content),), alpha))
            for mean, deviation in zip(means, deviations, strict=True)
        ]
        for name, space in spaces.items():
            before = moments(space, content)
            found = []
            for images, style in zip(made, styles, strict=True):
                wanted = moments(space, style[None])
                found.append(1 - distance(moments(space, images), wanted).mean(0) / distance(before, wanted).mean(0))
            result[name][f"alpha_{alpha}"] = round(torch.stack(found).mean().item(), 4)
    return result


@torch.inference_mode()
def milliseconds(networks: tuple[nn.Sequential, nn.Sequential], rounds: int = 9) -> dict[str, float]:
    """Median time per image with a cached style, batch 1, by image size and number of threads."""
    encoder, decoder = networks
    mean, deviation = adain.style_statistics(encoder, torch.rand(1, 3, STYLE_PX, STYLE_PX))
    threads_before = torch.get_num_threads()
    taken = {}
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for size_px in (128, 256):
            image, alpha, times = torch.rand(1, 3, size_px, size_px), torch.ones(1), []
            for _ in range(rounds + 2):
                started = time.perf_counter()
                adain.stylise(encoder, decoder, image, mean, deviation, alpha)
                times.append((time.perf_counter() - started) * 1e3)
            taken[f"{size_px}px_{threads}_threads"] = round(statistics.median(times[2:]), 1)
    torch.set_num_threads(threads_before)
    return taken


@torch.inference_mode()
def reconstruction_psnr_db(networks: tuple[nn.Sequential, nn.Sequential], content: Tensor) -> float:
    """PSNR of the images at alpha 0 against the content, over all images together."""
    encoder, decoder = networks
    mean, deviation = adain.style_statistics(encoder, content[:1])
    made = adain.stylise(encoder, decoder, content, mean, deviation, torch.zeros(len(content)))
    return round(-10 * float(np.log10(F.mse_loss(made, content).item())), 2)


def measure(options: argparse.Namespace) -> dict[str, object]:
    """All figures of one model, with the settings they were taken under."""
    networks = adain.load_encoder(options.model), adain.load_decoder(options.model)
    shown = load_images(options.styles, STYLE_PX)
    styles = shown.take(np.arange(len(shown.pixels)))
    photographs = load_images(options.photographs, PHOTOGRAPH_PX, options.images)
    small = load_images(options.small, 28)
    figures: dict[str, object] = {
        "model": Path(options.model).name,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "images": options.images,
    }
    for name, held in (("photographs", photographs), ("small", small)):
        content = held.take(np.arange(options.images))
        figures[name] = {
            "fall": distance_reductions(networks, content, styles),
            "psnr_db_alpha_0": reconstruction_psnr_db(networks, content),
        }
    figures["ms_per_image"] = milliseconds(networks)
    return figures


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m jobs.measure.style_distance", description=__doc__)
    parser.add_argument("--photographs", required=True, help="Parquet glob or folder of photographs not trained on")
    parser.add_argument("--small", required=True, help="IDX file (or glob, folder) of 28 px images not trained on")
    parser.add_argument("--model", default=str(ASSETS / "models" / "adain.safetensors"))
    parser.add_argument("--styles", default=str(ASSETS / "styles"))
    parser.add_argument("--images", type=int, default=48, help="images of each kind (default 48)")
    print(json.dumps(measure(parser.parse_args(arguments)), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
