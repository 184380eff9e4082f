"""Accuracy of a classifier trained on real images when it is tested on stylised ones.

`python -m jobs.measure.recognition --train URI --test URI --size-px 64 [--params JSON]` prints one JSON object: the
accuracy of a small CNN on the real test images, on what `adain_style` makes of them at several alphas, and the share of
the first that is kept. For comparison the same for plain changes of contrast and brightness: where those alone blind
the classifier, a style cannot do better.
"""

import argparse
import json
import sys

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jobs.loaded_operator import assets_of
from jobs.train.data.images import ImageSet, load_images, random_crops
from pipeline.contracts import ImageBatch
from pipeline.noise import Noise
from pipeline.operators.style.adain_style import AdaINStyle, AdaINStyleParams
from pipeline.seeding import step_seed

ALPHAS = (0.0, 0.3, 0.5, 1.0)
BATCH = 64
LEARNING_RATE = 3e-3
LUMA = (0.299, 0.587, 0.114)
PLAIN = {"half contrast": (0.5, 0.25), "three quarters of the contrast": (0.75, 0.125)}
"""Grey levels x in [0, 1] become a x + b."""


def small_classifier(train: ImageSet, steps: int) -> nn.Sequential:
    """A CNN of four convolutions, trained on real images [N, C, S, S] with small crops and mirrored ones."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    channels = train.pixels.shape[1]
    layers: list[nn.Module] = []
    for inward, outward in ((channels, 32), (32, 64), (64, 128), (128, 128)):
        layers += [nn.Conv2d(inward, outward, 3, padding=1), nn.BatchNorm2d(outward), nn.ReLU(), nn.MaxPool2d(2)]
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, train.classes))
    net = net.to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(net.parameters(), LEARNING_RATE, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, steps)
    for _ in range(steps):
        rows = rng.integers(0, len(train.pixels), BATCH)
        images = random_crops(train.take(rows)[:, :channels], train.size_px, rng, (0.85, 1.0))
        optimiser.zero_grad(set_to_none=True)
        F.cross_entropy(net(images), train.labels[torch.from_numpy(rows)]).backward()
        optimiser.step()
        schedule.step()
    return net.eval()


def stylised(test: ImageSet, options: argparse.Namespace, alpha: float) -> Tensor:
    """What `adain_style` makes of images at one alpha: [N, C, S, S] float in [0, 1]; grey comes back as luma."""
    params = AdaINStyleParams.model_validate(json.loads(options.params) | {"alpha_range": (alpha, alpha)})
    operator = AdaINStyle(params)
    operator.load("cpu", assets_of(operator))
    pixels = test.pixels.permute(0, 2, 3, 1).contiguous().numpy()
    made = []
    for first in range(0, len(pixels), operator.micro_batch):
        part = pixels[first : first + operator.micro_batch]
        seeds = [step_seed(f"{first + index:032x}", 0) for index in range(len(part))]
        batch = ImageBatch(part, seeds, np.full(len(part), -1))
        images = operator.apply(batch, operator.draw(batch), Noise(seeds)).images
        made.append(torch.from_numpy(images).float().div(255).permute(0, 3, 1, 2))
    colours = torch.cat(made)
    if test.pixels.shape[1] == 3:
        return colours
    return torch.einsum("nchw,c->nhw", colours, torch.tensor(LUMA))[:, None]


@torch.inference_mode()
def accuracy(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of right answers."""
    found = torch.cat([net(part).argmax(dim=1) for part in images.split(250)])
    return round((found == labels).float().mean().item(), 4)


def measure(options: argparse.Namespace) -> dict[str, object]:
    """Return the JSON object that `main` prints."""
    torch.set_num_threads(options.threads)
    train = load_images(options.train, options.size_px)
    test = load_images(options.test, options.size_px, options.images)
    channels = train.pixels.shape[1]
    net = small_classifier(train, options.steps)
    real = test.take(np.arange(len(test.pixels)))[:, :channels]
    found = {"real": accuracy(net, real, test.labels)}
    for name, (scale, shift) in PLAIN.items():
        found[name] = accuracy(net, real * scale + shift, test.labels)
    for alpha in ALPHAS:
        found[f"alpha {alpha}"] = accuracy(net, stylised(test, options, alpha), test.labels)
    kept = {name: round(value / found["real"], 4) for name, value in found.items()}
    return {"tested": len(test.labels), "trained": len(train.labels), "accuracy": found, "kept": kept}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m jobs.measure.recognition", description=__doc__)
    parser.add_argument("--train", required=True, help="real training images: Parquet glob, folder or IDX file")
    parser.add_argument("--test", required=True, help="real images that were not trained on")
    parser.add_argument("--size-px", type=int, default=64, help="side of the images (default 64)")
    parser.add_argument("--images", type=int, default=2000, help="test images at most (default 2000)")
    parser.add_argument("--steps", type=int, default=1000, help="of the classifier, 64 images each (default 1000)")
    parser.add_argument("--params", default="{}", help="parameters of adain_style, as JSON")
    parser.add_argument("--threads", type=int, default=1)
    print(json.dumps(measure(parser.parse_args(arguments)), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
