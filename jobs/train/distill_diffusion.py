"""Distils a model made by `train diffusion` into one that makes an image in four network calls, or fewer.

Progressive distillation (`jobs/train/objectives/distillation.py`): in each stage the student learns to make one step
where its teacher makes several, and then becomes the teacher of the next stage.
"""

import math
from collections.abc import Mapping
from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from jobs.train.data.labelled import Split, load_split, take
from jobs.train.data.references import Anywhere, local_model
from jobs.train.loop import generators, harness
from jobs.train.loop.config import Closed, read_config
from jobs.train.objectives import distillation
from pipeline.errors import InputError, ModelError, RecipeError
from pipeline.networks.generators import flow_matching
from pipeline.networks.generators.samplers import sample
from pipeline.networks.generators.unet import UNet

MODEL_FILE = "distilled.safetensors"
CLIP_NORM = 1.0


class Teacher(Closed):
    """The teacher of the first stage, and its sampler."""

    model: Anywhere = "builtin:fashion-diffusion"
    steps: PositiveInt = 8
    method: Literal["euler", "heun"] = "heun"
    guidance: float = Field(1.0, ge=0, le=20, description="folded into the student; 1 = none")


class DistillationPhase(generators.GeneratorPhase):
    """How the student is trained; the budget is shared evenly among the stages."""

    renamed: ClassVar[Mapping[str, str]] = {"unlabelled_share": "label_dropout"}

    stages: tuple[PositiveInt, ...] = Field((4,), min_length=1, description="steps of the student of each stage")
    trajectory_share: float = Field(
        0.5, ge=0, le=1, description="share of a batch on the teacher's own way from noise; the rest: noisy images"
    )
    weight_decay: float = Field(0.0, ge=0)
    label_dropout: float = Field(0.1, ge=0, le=1, description="labels left out, so that the class of none is kept")


class DistillationConfig(generators.GeneratorConfig):
    """The YAML of `train distill_diffusion`."""

    teacher: Teacher = Teacher()
    start: Anywhere | None = Field(None, description="a model to start from; the teacher where it is left out")
    training: DistillationPhase


def train(config_path: str | Path) -> Path:
    """Distil, or go on where the last call stopped; the path of the model.

    Raises RecipeError for a wrong configuration, ModelError for a teacher that is none, InputError for images that are
    missing or not what the teacher makes.
    """
    config = read_config(config_path, DistillationConfig)
    try:
        _check_stages(config.teacher.steps, config.training.stages)
    except ValueError as error:
        raise RecipeError(f"config {config_path}: training.stages: {error}") from error
    teacher, classes = read_model(config.teacher.model)
    made_for = flow_matching.distilled_steps(local_model(config.teacher.model))
    if made_for not in (None, config.teacher.steps):
        raise ModelError(f"model {config.teacher.model}: was distilled for {made_for} steps; say steps: {made_for}")
    if config.start is not None:
        _check_start(config, teacher, classes)
    _check_images(config, teacher, classes, load_split(config.data))
    return generators.fit(build, config, "distill_diffusion", MODEL_FILE)


def _check_stages(steps: int, stages: tuple[int, ...]) -> None:
    for before, after in pairwise((steps, *stages)):
        if before <= after or before % after:
            raise ValueError(f"{after} steps cannot be taught by {before}; needed: fewer, that divide them")


def read_model(reference: str) -> tuple[UNet, tuple[str, ...]]:
    """A frozen network and its class names, from `builtin:NAME`, a path or a URI. Raises ModelError."""
    return flow_matching.load_flow(local_model(reference))


def _check_start(config: DistillationConfig, teacher: UNet, classes: tuple[str, ...]) -> None:
    start, names = read_model(str(config.start))
    for name in ("size_px", "channels", "classes"):
        if getattr(start.shape, name) != getattr(teacher.shape, name):
            raise ModelError(
                f"model {config.start}: {name} is {getattr(start.shape, name)}, the teacher's "
                f"{getattr(teacher.shape, name)}"
            )
    if names != classes:
        raise ModelError(f"model {config.start}: its classes have other names than the teacher's")


def _check_images(config: DistillationConfig, teacher: UNet, classes: tuple[str, ...], split: Split) -> None:
    shape, data = teacher.shape, config.data
    if (data.size_px, data.channels) != (shape.size_px, shape.channels):
        raise InputError(
            f"images {data.uri!r}: {data.channels} channels of {data.size_px} px, and the teacher makes "
            f"{shape.channels} of {shape.size_px}"
        )
    numbered = tuple(str(index) for index in range(len(split.classes)))
    if split.classes != classes and not (split.classes == numbered and len(numbered) <= shape.classes):
        raise InputError(
            f"images {data.uri!r}: classes {', '.join(split.classes)}; the teacher's: {', '.join(classes)}"
        )


class DistillationTask(generators.GeneratorTask):
    """All stages, one after the other. `parts` holds the teacher as well: from the second stage on it is a student."""

    model_file = MODEL_FILE

    def __init__(self, config: dict[str, Any], device: torch.device) -> None:
        super().__init__(config, device)
        self.phase, self.teacher_config = DistillationPhase(**config["training"]), Teacher(**config["teacher"])
        teacher, self.classes = read_model(self.teacher_config.model)
        student, _ = read_model(config["start"] or self.teacher_config.model)
        self.stage, self.since = 0, 0  # the stage, and the step it began with
        self.teacher, self.net = teacher.to(device), student.requires_grad_(True).to(device)
        self._reset_optimiser()

    def _reset_optimiser(self) -> None:
        """A fresh optimiser and average: each stage is a training of its own."""
        rate = self.phase.learning_rate
        self.average = harness.averaged(self.net, self.phase.ema_decay)
        self.optimiser = torch.optim.AdamW(
            self.net.parameters(), rate, weight_decay=self.phase.weight_decay, fused=True
        )
        self.parts = {
            "teacher": self.teacher,
            "net": self.net,
            "average": self.average,
            "optimiser": self.optimiser,
        }

    def state(self) -> dict[str, Any]:
        return super().state() | {"stage": self.stage, "since": self.since}

    def load_state(self, state: dict[str, Any]) -> None:
        self.stage, self.since = state["stage"], state["since"]
        if self.stage:
            self.teacher = deepcopy(self.average.module)
            self._reset_optimiser()
        super().load_state(state)

    @property
    def steps(self) -> int:
        """Steps of the student of this stage, from noise to image."""
        return self.phase.stages[self.stage]

    def step(self, step: int, progress: float) -> dict[str, float]:
        share = progress * len(self.phase.stages)
        while self.stage < min(int(share), len(self.phase.stages) - 1):
            self._start_next_stage(step)
        generators.set_rate(self.optimiser, self.phase, step - self.since, min(share - self.stage, 1.0))
        self.optimiser.zero_grad(set_to_none=True)
        with harness.autocast(self.device), harness.attention(self.device):
            noisy, times, labels, wanted = self._training_batch(step)
            loss = distillation.distillation_loss(self.net, noisy, times, labels, wanted)
        loss.backward()
        harness.average_gradients(self.net.parameters())
        size = nn.utils.clip_grad_norm_(self.net.parameters(), CLIP_NORM)
        self.optimiser.step()
        self.average.update_parameters(self.net)
        self.done = step + 1
        return {"loss": loss.item(), "gradient": size.item(), "student_steps": float(self.steps)}

    def _start_next_stage(self, step: int) -> None:
        """Make the averaged student the teacher of the next stage, and the start of its student."""
        self.teacher = deepcopy(self.average.module)
        self.net.load_state_dict(self.teacher.state_dict())
        self.stage, self.since = self.stage + 1, step
        self._reset_optimiser()

    @torch.no_grad()
    def _training_batch(self, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Noisy images [N, C, S, S], times [N], labels [N] and target velocities: trajectories from noise, then noisy
        data.

        N is the batch size, rounded up to a multiple of the student's steps where all of it are trajectories.
        """
        rng, first = self.generator_of(step), self.stage == 0
        before = self.teacher_config.steps if first else self.phase.stages[self.stage - 1]
        guidance, method = (self.teacher_config.guidance, self.teacher_config.method) if first else (1.0, "euler")
        how = (self.steps, before // self.steps, guidance, method)
        ways = math.ceil(self.phase.trajectory_share * self.phase.batch_size / self.steps)
        images, labels = take(self.images, self.rows(rng, ways + self._data_image_count(ways)), self.device)
        noise = self.on_device(rng.standard_normal(images.shape, np.float32))
        dropped = self.on_device(rng.random(len(images), np.float32))
        labels = flow_matching.drop_labels(labels, dropped, self.phase.label_dropout)
        times = distillation.grid_times(self.on_device(rng.random(len(images) - ways, np.float32)), self.steps)
        parts: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        if ways:
            states, met, means = distillation.trajectory(self.teacher, noise[:ways], labels[:ways], *how)
            parts.append((states, met, labels[:ways].repeat(self.steps), means))
        if len(images) > ways:
            noisy = flow_matching.interpolate_to_noise(images[ways:], noise[ways:], times)
            means = distillation.mean_velocity(self.teacher, noisy, times, labels[ways:], *how)
            parts.append((noisy, times, labels[ways:], means))
        noisy, times, labels, means = (torch.cat(column) for column in zip(*parts, strict=True))
        return noisy, times, labels, means

    def _data_image_count(self, ways: int) -> int:
        """Return how many noisy images of the data complete the batch."""
        return max(self.phase.batch_size - ways * self.steps, 0)

    def samples(self, rng: np.random.Generator, labels: Tensor) -> Tensor:
        shape = self.net.shape
        noise = rng.standard_normal((len(labels), shape.channels, shape.size_px, shape.size_px), np.float32)
        return sample(self.average.module, self.on_device(noise), labels, self.steps)

    def save(self, path: Path, about: str) -> None:
        teacher = f"{about}; teacher {Path(self.teacher_config.model).name}, guidance {self.teacher_config.guidance:g}"
        flow_matching.save_flow(path, self.average.module, self.classes, teacher, self.steps)


def build(config: dict[str, Any], device: torch.device) -> DistillationTask:
    """DistillationTask from plain values: seed, rank, data, teacher, start, training."""
    return DistillationTask(config, device)
