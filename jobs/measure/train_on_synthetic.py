"""How well a small CNN that saw nothing but generated images recognises real ones.

`python -m jobs.measure.train_on_synthetic --real IDX --model F [--model F ...] [--images 10000] [--seeds 3]
[--test IDX] [--real-too]` prints one JSON object: accuracy by model, mean and every seed. The CNN, its steps and its
seeds are the same for every set. Checkpoints are chosen on held-out training images, which the generators never saw
(the split of `jobs.train.data.labelled`); `--test` adds the test set, for the end, once.
"""

import argparse
import contextlib
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jobs.train.data.images import ImageSet
from jobs.train.data.labelled import LabelledData, Split, load_split
from jobs.train.loop.harness import autocast
from pipeline.model_files import model_file
from pipeline.networks.generators import flow_matching, wgan
from pipeline.networks.generators.samplers import METHODS, sample
from pipeline.networks.pixel_tensors import from_pixels, to_pixels

BATCH = 64
SAMPLE_BATCH = 125
LEARNING_RATE = 2e-3


@dataclass(frozen=True)
class Sampling:
    """How images are taken from a generator."""

    steps: int = 16
    guidance: float = 1.0
    method: str = "euler"
    truncation: float = 1.0
    seed: int = 0
    half: bool = False


def classifier(channels: int, size_px: int, classes: int) -> nn.Sequential:
    """Two convolutions and two linear layers: [N, C, S, S] in [-1, 1] -> logits [N, classes]."""
    side = size_px // 4
    return nn.Sequential(
        nn.Conv2d(channels, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(64 * side**2, 128),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(128, classes),
    )


def accuracies(train: ImageSet, tests: Mapping[str, ImageSet], classes: int, seed: int, steps: int) -> dict[str, float]:
    """Accuracy in [0, 1] on each test set of one classifier, trained on `train` for so many steps of 64 images."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net = classifier(train.pixels.shape[1], train.size_px, classes).to(memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(net.parameters(), LEARNING_RATE, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps)
    for _ in range(steps):
        rows = torch.from_numpy(rng.integers(0, len(train.pixels), BATCH))
        optimiser.zero_grad(set_to_none=True)
        F.cross_entropy(net(_floats(train.pixels[rows])), train.labels[rows]).backward()
        optimiser.step()
        schedule.step()
    return {name: _accuracy(net.eval(), test) for name, test in tests.items()}


@torch.inference_mode()
def _accuracy(net: nn.Module, test: ImageSet) -> float:
    parts = zip(test.pixels.split(500), test.labels.split(500), strict=True)
    return sum(int((net(_floats(part)).argmax(dim=1) == labels).sum()) for part, labels in parts) / len(test.labels)


def _floats(pixels: Tensor) -> Tensor:
    return from_pixels(pixels.permute(0, 2, 3, 1)).contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def generated(path: str | Path, images: int, sampling: Sampling) -> ImageSet:
    """Return images made by a model file, equally many of each class. Raises ModelError for a file of neither kind."""
    generator = torch.Generator().manual_seed(sampling.seed)
    kind = model_file.read_metadata(path).get("architecture")
    net = wgan.load_generator(path)[0] if kind == wgan.ARCHITECTURE else flow_matching.load_flow(path)[0]
    shape = net.shape
    labels = torch.arange(images) % shape.classes
    parts = []
    for named in labels.split(SAMPLE_BATCH):
        if isinstance(net, wgan.Generator):
            latents = torch.randn(len(named), shape.latent, generator=generator)
            made = net(wgan.truncated(latents, torch.full((len(named),), sampling.truncation)), named)
        else:
            noise = torch.randn(len(named), shape.channels, shape.size_px, shape.size_px, generator=generator)
            with autocast(torch.device("cpu")) if sampling.half else contextlib.nullcontext():
                made = sample(net, noise, named, sampling.steps, sampling.guidance, sampling.method)
        parts.append(to_pixels(made).permute(0, 3, 1, 2))
    return ImageSet(torch.cat(parts).contiguous(), labels)


def _summary(found: Sequence[Mapping[str, float]]) -> dict[str, object]:
    """By test set: the mean and each seed's accuracy."""
    each = {name: [round(one[name], 4) for one in found] for name in found[0]}
    return {name: {"mean": round(statistics.mean(values), 4), "each": values} for name, values in each.items()}


def measure(options: argparse.Namespace) -> dict[str, object]:
    """Return the JSON object that `main` prints."""
    torch.set_num_threads(options.threads)
    data = LabelledData(uri=options.real, size_px=options.size_px, channels=options.channels)
    split: Split = load_split(data)
    tests = {"held_out": split.held_out}
    if options.test:
        tests["test"] = load_split(data.model_copy(update={"uri": options.test, "held_out": 0})).train
    sampling = Sampling(options.steps, options.guidance, options.method, options.truncation, half=options.half)
    figures: dict[str, object] = {
        "images": options.images,
        "classifier_steps": options.classifier_steps,
        "tested_images": {name: len(test.labels) for name, test in tests.items()},
    }
    sets: dict[str, ImageSet] = {}
    if options.real_too:
        sets["real"] = ImageSet(split.train.pixels[: options.images], split.train.labels[: options.images])
    for path in options.model:
        started = time.perf_counter()
        sets[path] = generated(path, options.images, sampling)
        figures[f"seconds to generate: {Path(path).name}"] = round(time.perf_counter() - started, 1)
    for name, images in sets.items():
        figures[name] = _summary(
            [accuracies(images, tests, len(split.classes), k, options.classifier_steps) for k in range(options.seeds)]
        )
    return figures


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m jobs.measure.train_on_synthetic", description=__doc__)
    parser.add_argument("--real", required=True, help="real training images: IDX file, Parquet glob or folder")
    parser.add_argument("--model", action="append", default=[], help="a model file; may be given several times")
    parser.add_argument("--test", help="real test images; for the end, once")
    parser.add_argument("--real-too", action="store_true", help="also the same CNN on as many real images")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=3, help="classifiers trained on each set (default 3)")
    parser.add_argument("--classifier-steps", type=int, default=1000, help="steps of 64 images (default 1000)")
    parser.add_argument("--steps", type=int, default=16, help="of the diffusion sampler")
    parser.add_argument("--guidance", type=float, default=1.0, help="of the diffusion sampler; 1 = none")
    parser.add_argument("--method", choices=METHODS, default="euler", help="of the diffusion sampler")
    parser.add_argument("--half", action="store_true", help="sample in bfloat16 where the processor has it")
    parser.add_argument("--truncation", type=float, default=1.0, help="of the GAN's latent; 1 = none")
    parser.add_argument("--size-px", type=int, default=28)
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    print(json.dumps(measure(parser.parse_args(arguments)), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
