"""Trains a class-conditional pixel diffusion model by flow matching, for `diffusion_generate` and `diffusion_edit`."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from jobs.train import generators, harness
from jobs.train.config import Closed, read_config
from jobs.train.labelled import LabelledData, load_split, take
from pipeline.errors import RecipeError
from pipeline.models import diffusion
from pipeline.models.samplers import sample
from pipeline.models.unet import UNet, UNetShape

MODEL_FILE = "diffusion.safetensors"
GRID_STEPS = 12  # of the sampler
CLIP_NORM = 1.0


class NetworkSize(Closed):
    """The U-Net's numbers; image size, channels and classes come from the data."""

    patch_px: PositiveInt = 2
    widths: tuple[PositiveInt, ...] = (64, 128)
    blocks: PositiveInt = 1
    groups: PositiveInt = 8
    heads: int = Field(4, ge=0)
    embedding: PositiveInt = 128


class FlowPhase(generators.GeneratorPhase):
    """How the network is trained."""

    weight_decay: float = Field(0.01, ge=0)
    unlabelled_share: float = Field(0.1, ge=0, le=1, description="labels left out, for classifier-free guidance")


class DiffusionConfig(generators.GeneratorConfig):
    """The YAML of `train diffusion`."""

    network: NetworkSize = NetworkSize()
    training: FlowPhase


def train(config_path: str | Path) -> Path:
    """Train, or go on where the last call stopped; the path of the model.

    Raises RecipeError for a wrong configuration and InputError for missing images.
    """
    config = read_config(config_path, DiffusionConfig)
    try:
        UNetShape(**config.network.model_dump(), size_px=config.data.size_px)
    except ValueError as error:
        raise RecipeError(f"config {config_path}: network: {error}") from error
    load_split(config.data)  # what is wrong with the images is said here, in one line, and not by a worker
    settings = config.model_dump(include={"seed", "data", "network", "training"})
    budget = generators.budget_of(config.training, config.threads)
    harness.fit(build, settings, budget, Path(config.out), "diffusion", config.workers)
    return Path(config.out) / "diffusion" / MODEL_FILE


class FlowTask:
    """Flow matching on labelled images, as a `harness.Task`."""

    def __init__(self, config: dict[str, Any], device: torch.device) -> None:
        self.seed, self.rank, self.device, self.done = config["seed"], config["rank"], device, 0
        self.phase = FlowPhase(**config["training"])
        data = LabelledData(**config["data"])
        split = load_split(data)
        self.images, self.classes = split.train, split.classes
        torch.manual_seed(self.seed)
        shape = UNetShape(
            size_px=data.size_px, channels=data.channels, classes=len(split.classes), **_tuples(config["network"])
        )
        self.net = UNet(shape).to(device, memory_format=torch.channels_last)
        self.average = deepcopy(self.net).requires_grad_(False).eval()
        self.optimiser = torch.optim.AdamW(
            self.net.parameters(), self.phase.learning_rate, weight_decay=self.phase.weight_decay, fused=True
        )

    def state(self) -> dict[str, Any]:
        parts = {"net": self.net, "average": self.average, "optimiser": self.optimiser}
        return {name: part.state_dict() for name, part in parts.items()} | {"done": self.done}

    def load_state(self, state: dict[str, Any]) -> None:
        self.net.load_state_dict(state["net"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.done = state["done"]

    def step(self, step: int, progress: float) -> dict[str, float]:
        rng = np.random.default_rng([self.seed, self.rank, step])
        images, labels = take(self.images, rng.integers(0, len(self.images.pixels), self.phase.batch), self.device)
        noise = self._drawn(rng.standard_normal(images.shape, np.float32))
        times = diffusion.logit_normal_times(self._drawn(rng.standard_normal(len(images), np.float32)))
        dropped = self._drawn(rng.random(len(images), np.float32))
        labels = diffusion.without_some_labels(labels, dropped, self.phase.unlabelled_share)
        generators.set_rate(self.optimiser, self.phase, step, progress)
        self.optimiser.zero_grad(set_to_none=True)
        with harness.autocast(self.device):
            loss = diffusion.flow_loss(self.net, images, labels, noise, times)
        loss.backward()
        harness.average_gradients(self.net.parameters())
        size = nn.utils.clip_grad_norm_(self.net.parameters(), CLIP_NORM)
        self.optimiser.step()
        harness.blend(self.average, self.net, generators.decay_of(self.phase, step))
        self.done = step + 1
        return {"loss": loss.item(), "gradient": size.item()}

    def _drawn(self, numbers: np.ndarray) -> Tensor:
        return torch.from_numpy(numbers).to(self.device)

    @torch.no_grad()
    def grid(self) -> Tensor | None:
        """One class a row, by the averaged weights, always from the same noise."""
        shape = self.net.shape
        labels = generators.grid_labels(shape.classes).to(self.device)
        rng = np.random.default_rng(self.seed)
        noise = rng.standard_normal((len(labels), shape.channels, shape.size_px, shape.size_px), np.float32)
        return generators.sheet(sample(self.average, self._drawn(noise), labels, GRID_STEPS))

    def export(self, folder: Path) -> None:
        about = f"palimpsest train diffusion, seed {self.seed}, {self.done} steps of {self.phase.batch}"
        generators.keep(
            folder,
            MODEL_FILE,
            self.done,
            lambda path: diffusion.save_flow(path, self.average, self.classes, about),
        )


def _tuples(network: dict[str, Any]) -> dict[str, Any]:
    return network | {"widths": tuple(network["widths"])}


def build(config: dict[str, Any], device: torch.device) -> FlowTask:
    """FlowTask from plain values: seed, rank, data, network, training."""
    return FlowTask(config, device)
