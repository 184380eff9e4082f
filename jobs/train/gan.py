"""Trains a class-conditional WGAN-GP generator, for `gan_synth`.

Each step trains the critic several times and the generator once.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from jobs.train.data.labelled import load_split, take
from jobs.train.loop import generators, harness
from jobs.train.loop.config import Closed, read_config
from pipeline.errors import InputError, RecipeError
from pipeline.networks.generators import wgan

MODEL_FILE = "gan.safetensors"
BETAS = (0.0, 0.9)  # of Adam (Gulrajani et al. 2017, algorithm 1)


class NetworkSize(Closed):
    """The generator's numbers; image size, channels and classes come from the data. And the critic's width."""

    latent: PositiveInt = 64
    widths: tuple[PositiveInt, PositiveInt, PositiveInt] = (96, 64, 16)
    critic_width: PositiveInt = 32


class AdversarialPhase(generators.GeneratorPhase):
    """How both networks are trained; the learning rate is the generator's and the critic's."""

    critic_steps: PositiveInt = 5
    penalty_share: float = Field(1.0, gt=0, le=1, description="share of a batch that the gradient penalty is taken of")


class GanConfig(generators.GeneratorConfig):
    """The YAML of `train gan`."""

    network: NetworkSize = NetworkSize()
    training: AdversarialPhase


def train(config_path: str | Path) -> Path:
    """Train, or go on where the last call stopped; the path of the model.

    Raises RecipeError for a wrong configuration and InputError for missing images.
    """
    config = read_config(config_path, GanConfig)
    try:
        wgan.GeneratorShape(size_px=config.data.size_px)
    except ValueError as error:
        raise RecipeError(f"config {config_path}: data.size_px: {error}") from error
    if (load_split(config.data).train.labels < 0).any():
        raise InputError(f"images {config.data.uri!r}: some have no label; a class-conditional GAN needs all of them")
    return generators.fit(build, config, "gan", MODEL_FILE)


class AdversarialTask(generators.GeneratorTask):
    """Generator against critic on labelled images."""

    model_file = MODEL_FILE

    def __init__(self, config: dict[str, Any], device: torch.device) -> None:
        super().__init__(config, device)
        self.phase = AdversarialPhase(**config["training"])
        network, rate = NetworkSize(**config["network"]), self.phase.learning_rate
        shape = wgan.GeneratorShape(
            self.data.size_px, self.data.channels, len(self.classes), network.latent, network.widths
        )
        self.generator = wgan.Generator(shape).to(device, memory_format=torch.channels_last)
        self.critic = wgan.Critic(shape, network.critic_width).to(device, memory_format=torch.channels_last)
        self.average = harness.averaged(self.generator, self.phase.ema_decay)
        self.optimisers = {
            "generator_optimiser": torch.optim.Adam(self.generator.parameters(), rate, BETAS, fused=True),
            "critic_optimiser": torch.optim.Adam(self.critic.parameters(), rate, BETAS, fused=True),
        }
        networks = {"generator": self.generator, "critic": self.critic, "average": self.average}
        self.parts = networks | self.optimisers

    def step(self, step: int, progress: float) -> dict[str, float]:
        rng = self.generator_of(step)
        for optimiser in self.optimisers.values():
            generators.set_rate(optimiser, self.phase, step, progress)
        losses: dict[str, float] = {}
        for _ in range(self.phase.critic_steps):
            losses |= self._critic_step(rng)
        losses |= self._generator_step(rng)
        self.average.update_parameters(self.generator)
        self.done = step + 1
        return losses

    def _critic_step(self, rng: np.random.Generator) -> dict[str, float]:
        real, labels = take(self.images, self.rows(rng, self.phase.batch_size), self.device)
        latents = self._latents(rng, len(real))
        part = max(1, round(self.phase.penalty_share * len(real)))
        share = self.on_device(rng.random(part, np.float32))
        optimiser = self.optimisers["critic_optimiser"]
        optimiser.zero_grad(set_to_none=True)
        with torch.no_grad(), harness.autocast(self.device):
            fake = self.generator(latents, labels)
        with harness.autocast(self.device):
            real_scores, fake_scores = self.critic(torch.cat([real, fake]), torch.cat([labels, labels])).chunk(2)
        # In full precision: a gradient of a gradient has a wider range than half precision holds.
        penalty = wgan.gradient_penalty(self.critic, real[:part], fake[:part], labels[:part], share)
        wgan.critic_loss(real_scores, fake_scores, penalty).backward()
        harness.average_gradients(self.critic.parameters())
        optimiser.step()
        return {"distance": (real_scores.mean() - fake_scores.mean()).item(), "penalty": penalty.item()}

    def _generator_step(self, rng: np.random.Generator) -> dict[str, float]:
        labels = self.images.labels[torch.from_numpy(self.rows(rng, self.phase.batch_size))].to(self.device)
        optimiser = self.optimisers["generator_optimiser"]
        optimiser.zero_grad(set_to_none=True)
        with harness.autocast(self.device):
            loss = wgan.generator_loss(self.critic(self.generator(self._latents(rng, len(labels)), labels), labels))
        loss.backward()
        harness.average_gradients(self.generator.parameters())
        optimiser.step()
        return {"generator": loss.item()}

    def _latents(self, rng: np.random.Generator, count: int) -> Tensor:
        return self.on_device(rng.standard_normal((count, self.generator.shape.latent), np.float32))

    def samples(self, rng: np.random.Generator, labels: Tensor) -> Tensor:
        made: Tensor = self.average(self._latents(rng, len(labels)), labels)
        return made

    def save(self, path: Path, about: str) -> None:
        wgan.save_generator(path, self.average.module, self.classes, about)


def build(config: dict[str, Any], device: torch.device) -> AdversarialTask:
    """AdversarialTask from plain values: seed, rank, data, network, training."""
    return AdversarialTask(config, device)
