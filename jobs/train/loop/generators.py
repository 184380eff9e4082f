"""The base of the trainers of generators: configuration, learning rate, sample grids and exported models."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from jobs.train.data.labelled import LabelledData, load_split
from jobs.train.data.sources import Phase
from jobs.train.loop import harness
from jobs.train.loop.config import Closed

HISTORY = "history"
GRID_COLUMNS, GRID_ROWS = 8, 10


class BatchPhase(Phase):
    """Budget, batch size and warm-up of the learning rate."""

    renamed: ClassVar[Mapping[str, str]] = {"batch": "batch_size", "warm_up_steps": "warmup_steps"}

    batch_size: PositiveInt = 64
    warmup_steps: int = Field(100, ge=0)


class GeneratorPhase(BatchPhase):
    """Budget and batches of a generator, and the averaging of its weights."""

    renamed: ClassVar[Mapping[str, str]] = {"average_decay": "ema_decay"}

    ema_decay: float = Field(0.999, ge=0, lt=1, description="of the averaged weights, which are what is exported")


class GeneratorConfig(Closed):
    """Configuration that the trainers of generators share. Paths are relative to the working directory."""

    seed: int = 7
    out: str
    workers: int = Field(1, ge=0, description="of Ray Train; 0: in this process, without Ray")
    threads: PositiveInt = 2
    data: LabelledData


def fit(build: harness.Build, config: Any, kind: str, model_file: str) -> Path:
    """Train the task that `build` makes of a `GeneratorConfig`, or go on with it; the path of the model."""
    budget = config.training.budget(config.threads)
    settings = config.model_dump(exclude={"out", "workers", "threads"})
    harness.fit(build, settings, budget, Path(config.out), kind, config.workers)
    return Path(config.out) / kind / model_file


class GeneratorTask(ABC):
    """A `harness.Task` on labelled images: what is drawn, what a checkpoint holds, the sheet, the model file.

    A trainer puts into `parts` whatever has a state dict, by name, and counts its steps in `done`.
    """

    model_file: ClassVar[str]

    def __init__(self, config: dict[str, Any], device: torch.device) -> None:
        self.seed, self.rank, self.device, self.done = config["seed"], config["rank"], device, 0
        self.data = LabelledData(**config["data"])
        split = load_split(self.data)
        self.images, self.classes = split.train, split.classes
        self.parts: dict[str, Any] = {}
        torch.manual_seed(self.seed)

    def state(self) -> dict[str, Any]:
        return {name: part.state_dict() for name, part in self.parts.items()} | {"done": self.done}

    def load_state(self, state: dict[str, Any]) -> None:
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        self.done = state["done"]

    def generator_of(self, step: int) -> np.random.Generator:
        """What a step draws from: a function of seed, rank and step alone."""
        return np.random.default_rng([self.seed, self.rank, step])

    def rows(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Draw the image indexes [count] of a batch."""
        return rng.integers(0, len(self.images.pixels), count)

    def on_device(self, numbers: np.ndarray) -> Tensor:
        """Return an array as a tensor on the task's device."""
        return torch.from_numpy(numbers).to(self.device)

    @torch.no_grad()
    def grid(self) -> Tensor | None:
        """One class a row, by the averaged weights, always from the same noise."""
        labels = grid_labels(len(self.classes)).to(self.device)
        return sheet(self.samples(np.random.default_rng(self.seed), labels))

    @abstractmethod
    def samples(self, rng: np.random.Generator, labels: Tensor) -> Tensor:
        """Images [N, C, S, S] in [-1, 1] of labels [N], by the averaged weights."""

    @abstractmethod
    def save(self, path: Path, about: str) -> None:
        """Write the model to a file, whole or not at all."""

    def export(self, folder: Path) -> None:
        """Write the newest model, and once more under `history/`, to choose from."""
        about = f"{Path(self.model_file).stem}, seed {self.seed}, {self.done} steps, by palimpsest train"
        self.save(folder / self.model_file, about)
        self.save(folder / HISTORY / f"step-{self.done:08d}.safetensors", about)


def set_rate(optimiser: torch.optim.Optimizer, phase: BatchPhase, step: int, progress: float) -> None:
    """Learning rate of this step: a rise over `warmup_steps`, times half a cosine down to 1 % at the end."""
    rate = phase.learning_rate * (0.01 + 0.99 * (0.5 + 0.5 * math.cos(math.pi * progress)))
    for group in optimiser.param_groups:
        group["lr"] = rate * min(1.0, (step + 1) / max(phase.warmup_steps, 1))


def grid_labels(classes: int) -> Tensor:
    """Labels of a sample sheet, one class a row, at most ten rows: [rows * 8] int64."""
    return torch.arange(min(classes, GRID_ROWS)).repeat_interleave(GRID_COLUMNS)


def sheet(images: Tensor) -> Tensor:
    """Images [rows * 8, C, S, S] in [-1, 1] as a grid [rows, 8, 3, S, S] in [0, 1]."""
    shown = images.clamp(-1, 1).add(1).div(2).expand(-1, 3, -1, -1)
    return shown.reshape(-1, GRID_COLUMNS, *shown.shape[1:]).cpu()
