"""The Ray Train side of every trainer: workers, the checkpoints Ray keeps, and what kill -9 leaves of its index."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
from ray.train.backend import Backend
from ray.train.torch import TorchConfig, TorchTrainer, get_device

from jobs.train.loop.checkpoints import KEPT, STATE_FILE, folder_name, newest_state, read_state
from pipeline.cluster.connection import connect

SNAPSHOT = "checkpoint_manager_snapshot.json"


def fit_on_ray(run: Callable[..., None], run_folder: Path, workers: int) -> None:
    """Call run(rank, device, checkpoints) on each of some Ray Train workers; it travels there, pickled.

    Raises ray.train.TrainingFailedError where it fails, and JobError where Ray cannot start.
    """
    mend_snapshot(run_folder)
    # A local Ray is just large enough: one CPU more than workers, for Ray Train's own actors.
    with connect("auto" if "RAY_ADDRESS" in os.environ else "local", cpus=workers + 1):
        _Trainer(
            _worker,
            train_loop_config={"run": run, "folder": str(run_folder)},
            torch_config=_Alone() if workers == 1 else TorchConfig(),
            scaling_config=ray.train.ScalingConfig(num_workers=workers, use_gpu="GPU" in ray.cluster_resources()),
            run_config=ray.train.RunConfig(
                name=run_folder.name,
                storage_path=str(run_folder.parent),
                checkpoint_config=ray.train.CheckpointConfig(num_to_keep=KEPT),
                failure_config=ray.train.FailureConfig(max_failures=1),
            ),
        ).fit()


class _Trainer(TorchTrainer):
    """A trainer that leaves Ctrl-C to the caller: Ray Train's own handler ends the driver with exit 1."""

    def _register_sigint_handler(self, controller: Any) -> None:
        """Register nothing: where the driver is stopped, it ends Ray, and Ray the workers."""


class _Alone(TorchConfig):
    """The backend of a single worker: no process group, which would listen on all network interfaces."""

    @property
    def backend_cls(self) -> type[Backend]:
        return Backend


def _worker(settings: dict[str, Any]) -> None:
    rank = ray.train.get_context().get_world_rank()
    settings["run"](rank, get_device(), RayCheckpoints(Path(settings["folder"])))


class RayCheckpoints:
    """Checkpoints that Ray Train stores (`harness.Checkpoints`)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def newest(self) -> dict[str, Any] | None:
        """The checkpoint that Ray Train hands over, or else the newest whole one on disk."""
        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            return newest_state(self._folder)
        with checkpoint.as_directory() as held:
            return read_state(Path(held) / STATE_FILE)

    def keep(self, step: int, state: dict[str, Any], losses: dict[str, float]) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            torch.save(state, Path(scratch) / STATE_FILE)
            checkpoint = ray.train.Checkpoint.from_directory(scratch)
            ray.train.report({"step": step} | losses, checkpoint=checkpoint, checkpoint_dir_name=folder_name(step))

    def passed(self, step: int, losses: dict[str, float]) -> None:
        ray.train.report({"step": step} | losses)


def mend_snapshot(run_folder: Path) -> None:
    """Drop Ray Train's own index of checkpoints if kill -9 cut it off or it names one that is not there.

    Ray overwrites that file in place and refuses to start with a broken one; `newest` then looks on disk itself.
    """
    snapshot = run_folder / SNAPSHOT
    if not snapshot.exists():
        return
    try:
        index = json.loads(snapshot.read_text())
        named = [one["checkpoint_dir_name"] for one in index["checkpoint_results"]]
    except (ValueError, KeyError, TypeError):
        snapshot.unlink()
        return
    if any(read_state(run_folder / one / STATE_FILE) is None for one in named):
        snapshot.unlink()
