"""The loop of every trainer: budget, checkpoints that survive kill -9, progress lines, sample grids.

A trainer is a `Task`; `fit` runs it until its budget is spent, on one or more Ray Train workers (`on_ray.py`) or, with
`workers: 0`, in this process without Ray. All that a task draws at random is to be a function of (seed, rank, step), so
that a resumed run makes the losses of an undisturbed one.
"""

import contextlib
import json
import math
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim.swa_utils import PARAM_LIST, AveragedModel, get_ema_multi_avg_fn

from jobs.train.loop.checkpoints import LocalCheckpoints
from pipeline.networks.precision import has_bfloat16

METRICS_FILE = "metrics.jsonl"
WARM_UP_STEPS = 100


class Task(Protocol):
    """The interface of a trainer. Everything that must survive a restart is in `state`."""

    def state(self) -> dict[str, Any]:
        """Networks, optimisers and averages, as plain state dicts."""

    def load_state(self, state: dict[str, Any]) -> None:
        """The reverse of `state`."""

    def step(self, step: int, progress: float) -> dict[str, float]:
        """One optimiser step, the `step`-th from 0; progress in [0, 1) of the budget. Returns losses by name."""

    def grid(self) -> Tensor | None:
        """Sample images [rows, columns, 3, H, W] in [0, 1], or None."""

    def export(self, folder: Path) -> None:
        """Write what the run is for (weights a user loads) into `folder`, each file whole or not at all."""


Build = Callable[[dict[str, Any], torch.device], Task]


class Checkpoints(Protocol):
    """Where the states of a run are kept."""

    def newest(self) -> dict[str, Any] | None:
        """The state to go on from; None at the start."""

    def keep(self, step: int, state: dict[str, Any], losses: dict[str, float]) -> None:
        """Keep the state of rank 0 after `step` steps, whole or not at all."""

    def passed(self, step: int, losses: dict[str, float]) -> None:
        """Called by the other ranks where rank 0 calls `keep`."""


@dataclass(frozen=True)
class Budget:
    """When a run ends (the earlier of steps and seconds), and how often it reports, saves and draws."""

    steps: int
    seconds: float
    checkpoint_seconds: float = 60.0
    logging_steps: int = 20
    grid_steps: int = 200
    threads: int = 2


@dataclass
class _Clock:
    """Training seconds over all restarts."""

    spent_s: float
    started: float

    def total(self) -> float:
        return self.spent_s + time.monotonic() - self.started


def fit(build: Build, config: dict[str, Any], budget: Budget, folder: Path, name: str, workers: int = 1) -> None:
    """Train until the budget is spent; the same call again goes on from the last checkpoint of `folder/name`.

    build: called on each worker as build(config, device). config: plain values only, it travels to the workers.
    workers: Ray Train workers; 0: this process, on its GPU where it sees one, without Ray.
    Raises ray.train.TrainingFailedError where the task itself fails on a worker.
    """
    run_folder = (folder / name).absolute()
    run_folder.mkdir(parents=True, exist_ok=True)
    worker = partial(_run, build, config, budget, run_folder)
    with _echo(run_folder / METRICS_FILE):
        if workers == 0:
            device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
            worker(0, device, LocalCheckpoints(run_folder))
            return
        from jobs.train.loop.on_ray import fit_on_ray

        fit_on_ray(worker, run_folder, workers)


@contextlib.contextmanager
def _echo(path: Path) -> Iterator[None]:
    """While training runs, print each new line of the metrics file as a progress line on stderr."""
    ended = threading.Event()
    with open(path, "a+") as file:
        file.seek(0, os.SEEK_END)

        def follow() -> None:
            while not ended.wait(0.5):
                tell()

        def tell() -> None:
            for line in file:
                values = " ".join(f"{name} {value:.4g}" for name, value in json.loads(line).items())
                print(f"{path.parent.name}: {values}", file=sys.stderr, flush=True)

        follower = threading.Thread(target=follow, daemon=True)
        follower.start()
        try:
            yield
        finally:
            ended.set()
            follower.join()
            tell()


def _run(
    build: Build,
    config: dict[str, Any],
    budget: Budget,
    folder: Path,
    rank: int,
    device: torch.device,
    checkpoints: Checkpoints,
) -> None:
    """Train on one worker until the budget is spent."""
    torch.set_num_threads(budget.threads)
    chief = rank == 0
    task = build(config | {"rank": rank}, device)
    step, spent_s = _restore(task, checkpoints)
    clock = _Clock(spent_s, time.monotonic())
    saved_s = clock.total()
    while not _is_spent(budget, step, clock):
        progress = max(step / budget.steps, clock.total() / budget.seconds)
        losses = task.step(step, min(progress, 1.0))
        step += 1
        if chief and (step % budget.logging_steps == 0 or step == 1):
            _tell(folder, step, clock.total(), losses)
        if chief and step % budget.grid_steps == 0:
            _draw(task, folder, step)
        if _agreed(clock.total() - saved_s >= budget.checkpoint_seconds):
            _save(task, folder, step, clock, losses, chief, checkpoints)
            saved_s = clock.total()
    _save(task, folder, step, clock, {}, chief, checkpoints)
    if chief:
        _draw(task, folder, step)


def _is_spent(budget: Budget, step: int, clock: _Clock) -> bool:
    return _agreed(step >= budget.steps or clock.total() >= budget.seconds)


def _agreed(here: bool) -> bool:
    """Return rank 0's decision on all workers: their clocks differ, and all must stop at the same step."""
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return here
    said = [here]
    torch.distributed.broadcast_object_list(said, src=0)
    return said[0]


def _save(
    task: Task,
    folder: Path,
    step: int,
    clock: _Clock,
    losses: dict[str, float],
    chief: bool,
    checkpoints: Checkpoints,
) -> None:
    if not chief:
        checkpoints.passed(step, losses)
        return
    state = {
        "task": task.state(),
        "step": step,
        "spent_s": clock.total(),
        "random": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    checkpoints.keep(step, state, losses)
    task.export(folder)


def _restore(task: Task, checkpoints: Checkpoints) -> tuple[int, float]:
    """Load the newest checkpoint: (next step, seconds spent)."""
    state = checkpoints.newest()
    if state is None:
        return 0, 0.0
    task.load_state(state["task"])
    random.setstate(state["random"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
    return state["step"], state["spent_s"]


def _tell(folder: Path, step: int, seconds: float, losses: dict[str, float]) -> None:
    with open(folder / METRICS_FILE, "a") as file:
        file.write(json.dumps({"step": step, "seconds": round(seconds, 2)} | losses) + "\n")


def _draw(task: Task, folder: Path, step: int) -> None:
    grid = task.grid()
    if grid is not None:
        save_grid(folder / "grids" / f"step-{step:08d}.png", grid)


def save_grid(path: Path, grid: Tensor) -> None:
    """Images [rows, columns, 3, H, W] in [0, 1] as one PNG, edge to edge."""
    rows, columns, channels, height, width = grid.shape
    sheet = grid.permute(0, 3, 1, 4, 2).reshape(rows * height, columns * width, channels)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((sheet.clamp(0, 1) * 255).round().byte().cpu().numpy()).save(path)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Mean of the gradients over all workers; nothing where there is one."""
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return
    for parameter in parameters:
        if parameter.grad is not None:
            torch.distributed.all_reduce(parameter.grad)
            parameter.grad /= torch.distributed.get_world_size()


def set_rate(optimiser: torch.optim.Optimizer, learning_rate: float, step: int, progress: float) -> None:
    """Learning rate of this step: a rise over the first 100, times half a cosine down to 2 % at the end."""
    rate = learning_rate * (0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * progress)))
    for group in optimiser.param_groups:
        group["lr"] = rate * min(1.0, (step + 1) / WARM_UP_STEPS)


def autocast(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """bfloat16 where the device has it in hardware, else nothing."""
    return torch.autocast(device.type, torch.bfloat16) if has_bfloat16(device) else contextlib.nullcontext()


def attention(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Attention in plain matrix products on CPUs: over a few dozen tokens, the fused kernel's backward is slower."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else contextlib.nullcontext()


def averaged(network: nn.Module, decay: float) -> AveragedModel:
    """The exponential moving average of a network: `update_parameters` after each step, `module` is the copy.

    Its decay is short at first, (steps + 1) / (steps + 10), so that the start is soon forgotten. It counts the steps in
    its state, which a checkpoint keeps; buffers are averaged as well.
    """

    def blend(kept: PARAM_LIST, new: PARAM_LIST, steps: Tensor | int) -> None:
        get_ema_multi_avg_fn(min(decay, (int(steps) + 1) / (int(steps) + 10)))(kept, new, steps)

    return AveragedModel(network, multi_avg_fn=blend, use_buffers=True).requires_grad_(False).eval()
