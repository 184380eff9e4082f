"""The Ray Train side of every trainer: budget, checkpoints that survive kill -9, progress lines, sample grids.

A trainer is a `Task`; `fit` runs it on one or more Ray Train workers until its budget is spent. All that a task draws
at random is to be a function of (seed, rank, step), so that a resumed run makes the losses of an undisturbed one.
"""

import contextlib
import json
import math
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import ray
import ray.train
import torch
from PIL import Image
from ray.train.torch import TorchTrainer, get_device
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from pipeline.models.precision import has_bfloat16

STATE_FILE = "state.pt"
METRICS_FILE = "metrics.jsonl"
WARM_UP_STEPS = 100


class Task(Protocol):
    """What a trainer gives the harness. Everything that must survive a restart is in `state`."""

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


@dataclass(frozen=True)
class Budget:
    """When a run ends (the earlier of steps and seconds), and how often it reports, saves and draws."""

    steps: int
    seconds: float
    checkpoint_seconds: float = 60.0
    progress_steps: int = 20
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
    Raises ray.train.TrainingFailedError where the task itself fails.
    """
    if not ray.is_initialized():
        _start_ray(workers)
    run_folder = (folder / name).absolute()
    run_folder.mkdir(parents=True, exist_ok=True)
    _mend_snapshot(run_folder)
    trainer = TorchTrainer(
        _loop,
        train_loop_config={"build": build, "task": config, "budget": asdict(budget), "folder": str(run_folder)},
        scaling_config=ray.train.ScalingConfig(num_workers=workers, use_gpu="GPU" in ray.cluster_resources()),
        run_config=ray.train.RunConfig(
            name=name,
            storage_path=str(run_folder.parent),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
            failure_config=ray.train.FailureConfig(max_failures=1),
        ),
    )
    with _echo(run_folder / METRICS_FILE):
        trainer.fit()


def _start_ray(workers: int) -> None:
    """Join the cluster that RAY_ADDRESS names, or start a local Ray that is just large enough."""
    if "RAY_ADDRESS" in os.environ:
        ray.init(log_to_driver=False)
    else:
        # One CPU more than workers, for Ray Train's own actors.
        ray.init(num_cpus=workers + 1, include_dashboard=False, log_to_driver=False)


@contextlib.contextmanager
def _echo(path: Path) -> Iterator[None]:
    """Meanwhile, print each line a worker adds to its metrics file as a progress line on stderr."""
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


def _loop(settings: dict[str, Any]) -> None:
    """The life of one worker."""
    budget = Budget(**settings["budget"])
    folder = Path(settings["folder"])
    torch.set_num_threads(budget.threads)
    context = ray.train.get_context()
    chief = context.get_world_rank() == 0
    task = settings["build"](settings["task"] | {"rank": context.get_world_rank()}, get_device())
    step, spent_s = _restore(task, folder)
    clock = _Clock(spent_s, time.monotonic())
    saved_s = clock.total()
    while not _is_spent(budget, step, clock):
        progress = max(step / budget.steps, clock.total() / budget.seconds)
        losses = task.step(step, min(progress, 1.0))
        step += 1
        if chief and (step % budget.progress_steps == 0 or step == 1):
            _tell(folder, step, clock.total(), losses)
        if chief and step % budget.grid_steps == 0:
            _draw(task, folder, step)
        if _agreed(clock.total() - saved_s >= budget.checkpoint_seconds):
            _save(task, folder, step, clock, losses, chief)
            saved_s = clock.total()
    _save(task, folder, step, clock, {}, chief)
    if chief:
        _draw(task, folder, step)


def _is_spent(budget: Budget, step: int, clock: _Clock) -> bool:
    return _agreed(step >= budget.steps or clock.total() >= budget.seconds)


def _agreed(here: bool) -> bool:
    """What rank 0 thinks: clocks differ, and workers that part ways would wait for each other for ever."""
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return here
    said = [here]
    torch.distributed.broadcast_object_list(said, src=0)
    return said[0]


def _save(task: Task, folder: Path, step: int, clock: _Clock, losses: dict[str, float], chief: bool) -> None:
    if not chief:
        ray.train.report({"step": step} | losses)
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
    with tempfile.TemporaryDirectory() as scratch:
        torch.save(state, Path(scratch) / STATE_FILE)
        checkpoint = ray.train.Checkpoint.from_directory(scratch)
        ray.train.report({"step": step} | losses, checkpoint=checkpoint, checkpoint_dir_name=f"step-{step:08d}")
    task.export(folder)


def _restore(task: Task, folder: Path) -> tuple[int, float]:
    """Load the checkpoint Ray Train hands over, or else the newest whole one on disk: (next step, seconds spent)."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as held:
            state = _read(Path(held) / STATE_FILE)
    else:
        found = (_read(path) for path in sorted(folder.glob(f"step-*/{STATE_FILE}"), reverse=True))
        state = next((one for one in found if one is not None), None)
    if state is None:
        return 0, 0.0
    task.load_state(state["task"])
    random.setstate(state["random"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
    return state["step"], state["spent_s"]


def _read(path: Path) -> dict[str, Any] | None:
    # Our own checkpoint, with Python and NumPy random states in it; never a file from elsewhere.
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=False)
    except Exception:  # a copy cut off by kill -9 fails in many ways; the one before it is whole
        return None
    return state


def _mend_snapshot(run_folder: Path) -> None:
    """Drop Ray Train's own index of checkpoints if kill -9 cut it off or it names one that is not there.

    Ray overwrites that file in place and refuses to start with a broken one; `_restore` then looks on disk itself.
    """
    snapshot = run_folder / "checkpoint_manager_snapshot.json"
    if not snapshot.exists():
        return
    try:
        index = json.loads(snapshot.read_text())
        named = [one["checkpoint_dir_name"] for one in index["checkpoint_results"]]
    except (ValueError, KeyError, TypeError):
        snapshot.unlink()
        return
    if any(_read(run_folder / one / STATE_FILE) is None for one in named):
        snapshot.unlink()


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


@torch.no_grad()
def blend(average: nn.Module, live: nn.Module, decay: float) -> None:
    """Exponential moving average of the weights: average = decay * average + (1 - decay) * live, in place."""
    for kept, new in zip(average.state_dict().values(), live.state_dict().values(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(new, 1 - decay)
        else:
            kept.copy_(new)
