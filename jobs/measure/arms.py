"""Ways to train a classifier, called arms, that differ in the images of each batch and in nothing else.

With one seed every arm starts from the same weights, sees the same rows in the same order, for the same number of
steps: so figures of two arms are compared seed by seed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jobs.measure.copies import Copies, Step
from jobs.train.data.images import ImageSet
from jobs.train.loop.harness import autocast
from pipeline.contracts import Pixels
from pipeline.errors import RecipeError
from pipeline.seeding import canonical_json

BATCH = 64
EVALUATED = 250  # images a call
LEARNING_RATE = 5e-3
WEIGHT_DECAY = 1e-3
WIDTHS = (16, 32, 64, 64)
CPU = torch.device("cpu")
POLICIES = ("crop_flip", "trivial_augment", "rand_augment", "aug_mix")
SPEC = {"name", "share", "operators", "with_best_control"}


@dataclass(frozen=True)
class Arm:
    """One way to train: chains of operators, each with its share of every batch; the shares sum to 1."""

    name: str
    parts: tuple[tuple[float, tuple[Step, ...]], ...]

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, "parts": [[share, list(chain)] for share, chain in self.parts]}


def controls() -> list[Arm]:
    """No augmentation, and each policy of `classical` on every image."""
    classical = [Arm(policy, ((1.0, ({"classical": {"policy": policy}},)),)) for policy in POLICIES]
    return [Arm("none", ((1.0, ()),)), *classical]


def treatment(spec: Mapping[str, Any], best: Arm) -> Arm:
    """The arm of `{name, share, operators, with_best_control}`: `operators` make that share of every batch.

    The rest is real; with `with_best_control` the best control's operator follows on all images, stylised or not.

    Raises:
        RecipeError: a key is missing or unknown, or the share is not in [0, 1].
    """
    if set(spec) | {"with_best_control"} != SPEC:
        raise RecipeError(f"treatment {canonical_json(dict(spec))}: needs the keys {sorted(SPEC)}")
    share = float(spec["share"])
    if not 0 <= share <= 1:
        raise RecipeError(f"treatment {spec['name']!r}: share = {share} is not in [0, 1]")
    after: tuple[Step, ...] = best.parts[0][1] if spec.get("with_best_control") else ()
    return Arm(str(spec["name"]), ((share, (*spec["operators"], *after)), (1 - share, after)))


def classifier(channels: int, classes: int) -> nn.Sequential:
    """Four normalised 3x3 convolutions, the first two followed by a pooling: [N, C, S, S] -> [N, classes]."""
    layers: list[nn.Module] = []
    inward = channels
    for place, width in enumerate(WIDTHS):
        layers += [nn.Conv2d(inward, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if place < 2 else []
        inward = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inward, classes))


def train_classifier(arm: Arm, copies: Copies, labels: Tensor, classes: int, seed: int, steps: int) -> nn.Sequential:
    """Return a classifier trained for `steps` steps of 64 images each."""
    parts = [(share, copies.of(chain)) for share, chain in arm.parts if share > 0]
    ends = np.rint(BATCH * np.cumsum([share for share, _ in parts])).astype(int)
    torch.manual_seed(seed)
    of_rows, of_copies = np.random.default_rng([seed, 0]), np.random.default_rng([seed, 1])
    net = classifier(parts[0][1].shape[2], classes).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(net.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps)
    for _ in range(steps):
        rows = torch.from_numpy(of_rows.integers(0, len(labels), BATCH))
        drawn = torch.from_numpy(of_copies.integers(0, copies.count, BATCH))
        taken = zip((0, *ends[:-1]), ends, parts, strict=True)
        images = [held[drawn[first:end] % len(held), rows[first:end]] for first, end, (_, held) in taken]
        optimiser.zero_grad(set_to_none=True)
        with autocast(CPU):
            found = net(_floats(torch.cat(images)))
        F.cross_entropy(found.float(), labels[rows]).backward()
        optimiser.step()
        schedule.step()
    return net.eval()


@torch.inference_mode()
def accuracy(net: nn.Module, pixels: Tensor, labels: Tensor) -> float:
    """Right answers in per cent, on [N, C, S, S] uint8."""
    right = 0
    for part, wanted in zip(pixels.split(EVALUATED), labels.split(EVALUATED), strict=True):
        with autocast(CPU):
            right += int((net(_floats(part)).argmax(dim=1) == wanted).sum())
    return 100 * right / len(labels)


def accuracies(net: nn.Module, tests: Mapping[str, ImageSet]) -> dict[str, float]:
    """Right answers in per cent, by test set."""
    return {name: round(accuracy(net, test.pixels, test.labels), 3) for name, test in tests.items()}


def tensor_of(images: Pixels) -> Tensor:
    """[N, H, W, C] as a tensor [N, C, H, W]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def arms_as_json(arms: Sequence[Arm]) -> dict[str, dict[str, Any]]:
    """Return each arm's description, by name, for the result."""
    return {arm.name: arm.as_json() for arm in arms}


def _floats(pixels: Tensor) -> Tensor:
    return pixels.float().div_(127.5).sub_(1).contiguous(memory_format=torch.channels_last)
