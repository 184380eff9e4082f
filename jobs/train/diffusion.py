"""Trains a class-conditional pixel diffusion model by flow matching, for `diffusion_generate` and `diffusion_edit`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from jobs.train.data.labelled import load_split, take
from jobs.train.loop import generators, harness
from jobs.train.loop.config import Closed, read_config
from pipeline.errors import RecipeError
from pipeline.networks.generators import flow_matching
from pipeline.networks.generators.samplers import sample
from pipeline.networks.generators.unet import UNet, UNetShape

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

    renamed: ClassVar[Mapping[str, str]] = {"unlabelled_share": "label_dropout"}

    weight_decay: float = Field(0.01, ge=0)
    label_dropout: float = Field(0.1, ge=0, le=1, description="labels left out, for classifier-free guidance")


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
    load_split(config.data)  # faults of the images are one line here; from a worker they would be a traceback
    return generators.fit(build, config, "diffusion", MODEL_FILE)


class FlowTask(generators.GeneratorTask):
    """Flow matching on labelled images."""

    model_file = MODEL_FILE

    def __init__(self, config: dict[str, Any], device: torch.device) -> None:
        super().__init__(config, device)
        self.phase = FlowPhase(**config["training"])
        size = _tuples(config["network"])
        shape = UNetShape(size_px=self.data.size_px, channels=self.data.channels, classes=len(self.classes), **size)
        self.net = UNet(shape).to(device, memory_format=torch.channels_last)
        self.average = harness.averaged(self.net, self.phase.ema_decay)
        self.optimiser = torch.optim.AdamW(
            self.net.parameters(), self.phase.learning_rate, weight_decay=self.phase.weight_decay, fused=True
        )
        self.parts = {"net": self.net, "average": self.average, "optimiser": self.optimiser}

    def step(self, step: int, progress: float) -> dict[str, float]:
        rng = self.generator_of(step)
        images, labels = take(self.images, self.rows(rng, self.phase.batch_size), self.device)
        noise = self.on_device(rng.standard_normal(images.shape, np.float32))
        times = flow_matching.logit_normal_times(self.on_device(rng.standard_normal(len(images), np.float32)))
        dropped = self.on_device(rng.random(len(images), np.float32))
        labels = flow_matching.drop_labels(labels, dropped, self.phase.label_dropout)
        generators.set_rate(self.optimiser, self.phase, step, progress)
        self.optimiser.zero_grad(set_to_none=True)
        with harness.autocast(self.device), harness.attention(self.device):
            loss = flow_matching.flow_loss(self.net, images, labels, noise, times)
        loss.backward()
        harness.average_gradients(self.net.parameters())
        size = nn.utils.clip_grad_norm_(self.net.parameters(), CLIP_NORM)
        self.optimiser.step()
        self.average.update_parameters(self.net)
        self.done = step + 1
        return {"loss": loss.item(), "gradient": size.item()}

    def samples(self, rng: np.random.Generator, labels: Tensor) -> Tensor:
        shape = self.net.shape
        noise = rng.standard_normal((len(labels), shape.channels, shape.size_px, shape.size_px), np.float32)
        return sample(self.average.module, self.on_device(noise), labels, GRID_STEPS)

    def save(self, path: Path, about: str) -> None:
        flow_matching.save_flow(path, self.average.module, self.classes, about)


def _tuples(network: dict[str, Any]) -> dict[str, Any]:
    return network | {"widths": tuple(network["widths"])}


def build(config: dict[str, Any], device: torch.device) -> FlowTask:
    """FlowTask from plain values: seed, rank, data, network, training."""
    return FlowTask(config, device)
