"""The states of a training on disk: one folder a checkpoint, the newest two kept."""

import shutil
from pathlib import Path
from typing import Any

import torch

STATE_FILE = "state.pt"
KEPT = 2


def folder_name(step: int) -> str:
    """The name of the checkpoint after `step` steps."""
    return f"step-{step:08d}"


def read_state(path: Path) -> dict[str, Any] | None:
    """The state in a file; None where there is none, or kill -9 cut it off."""
    # Our own checkpoint, with Python and NumPy random states in it; never a file from elsewhere.
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=False)
    except Exception:  # a copy cut off by kill -9 fails in many ways; the one before it is whole
        return None
    return state


def newest_state(folder: Path) -> dict[str, Any] | None:
    """The newest whole state below a run's folder."""
    found = (read_state(path) for path in sorted(folder.glob(f"step-*/{STATE_FILE}"), reverse=True))
    return next((one for one in found if one is not None), None)


class LocalCheckpoints:
    """Checkpoints of a run in this process (`harness.Checkpoints`)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def newest(self) -> dict[str, Any] | None:
        return newest_state(self._folder)

    def keep(self, step: int, state: dict[str, Any], losses: dict[str, float]) -> None:  # noqa: ARG002
        place, staged = self._folder / folder_name(step), self._folder / f".{folder_name(step)}"
        shutil.rmtree(staged, ignore_errors=True)  # of a run that was killed while it wrote
        staged.mkdir()
        torch.save(state, staged / STATE_FILE)
        shutil.rmtree(place, ignore_errors=True)
        staged.rename(place)
        for old in sorted(self._folder.glob("step-*"))[:-KEPT]:
            shutil.rmtree(old)

    def passed(self, step: int, losses: dict[str, float]) -> None:
        """Do nothing: there is no other rank."""
