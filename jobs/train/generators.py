"""What the trainers of generators share: their part of the configuration, learning rates, grids, kept checkpoints."""

import math
from collections.abc import Callable
from pathlib import Path

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from jobs.train.config import Closed
from jobs.train.harness import Budget
from jobs.train.labelled import LabelledData
from jobs.train.sources import Phase

HISTORY = "history"
GRID_COLUMNS, GRID_ROWS = 8, 10


class GeneratorPhase(Phase):
    """Budget, batch and averaging of a generator's training."""

    batch: PositiveInt = 64
    warm_up_steps: int = Field(100, ge=0)
    average_decay: float = Field(0.999, ge=0, lt=1, description="of the averaged weights, which are what is exported")


class GeneratorConfig(Closed):
    """What the YAML of every trainer of a generator has. Paths are relative to where the command is called."""

    seed: int = 7
    out: str
    workers: PositiveInt = 1
    threads: PositiveInt = 2
    data: LabelledData


def budget_of(phase: Phase, threads: int) -> Budget:
    """The harness's budget of a phase."""
    return Budget(
        steps=phase.steps,
        seconds=phase.seconds,
        checkpoint_seconds=phase.checkpoint_seconds,
        progress_steps=phase.progress_steps,
        grid_steps=phase.grid_steps,
        threads=threads,
    )


def set_rate(optimiser: torch.optim.Optimizer, phase: GeneratorPhase, step: int, progress: float) -> None:
    """Learning rate of this step: a rise over `warm_up_steps`, times half a cosine down to 1 % at the end."""
    rate = phase.learning_rate * (0.01 + 0.99 * (0.5 + 0.5 * math.cos(math.pi * progress)))
    for group in optimiser.param_groups:
        group["lr"] = rate * min(1.0, (step + 1) / max(phase.warm_up_steps, 1))


def decay_of(phase: GeneratorPhase, step: int) -> float:
    """Decay of the averaged weights: short at first, so that the start is soon forgotten."""
    return min(phase.average_decay, (step + 1) / (step + 10))


def grid_labels(classes: int) -> Tensor:
    """Labels of a sample sheet, one class a row, at most ten rows: [rows * 8] int64."""
    return torch.arange(min(classes, GRID_ROWS)).repeat_interleave(GRID_COLUMNS)


def sheet(images: Tensor) -> Tensor:
    """Images [rows * 8, C, S, S] in [-1, 1] as a grid [rows, 8, 3, S, S] in [0, 1]."""
    shown = images.clamp(-1, 1).add(1).div(2).expand(-1, 3, -1, -1)
    return shown.reshape(-1, GRID_COLUMNS, *shown.shape[1:]).cpu()


def keep(folder: Path, name: str, step: int, save: Callable[[Path], None]) -> None:
    """Write the newest model to `folder/name`, and once more under `history/`, to choose from."""
    save(folder / name)
    save(folder / HISTORY / f"step-{step:08d}.safetensors")
