"""A model in one safetensors file: weights, and in its metadata architecture, shape numbers and class names.

So the file alone is enough to build the network.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from pipeline.errors import ModelError
from pipeline.messages import one_line
from pipeline.model_files import weights

Net = TypeVar("Net", bound=nn.Module)


def save_model(
    path: str | Path,
    architecture: str,
    numbers: Mapping[str, Any],
    classes: Sequence[str],
    state: Mapping[str, Tensor],
    about: str = "",
    dtype: torch.dtype = torch.float16,
    more: Mapping[str, str] | None = None,
) -> None:
    """Write a model, whole or not at all (temporary file, then rename).

    Args:
        numbers: what `build` of `load_model` needs to build the network; JSON values.
        classes: names of the classes in the order of their indexes; empty where they have none.
        about: one line for people: where it came from.
        dtype: what floating-point tensors are stored as.
        more: further entries of the metadata, which building the network does not need.
    """
    metadata = {
        "architecture": architecture,
        "numbers": json.dumps(numbers, sort_keys=True),
        "classes": json.dumps(list(classes)),
        "about": about,
        **(more or {}),
    }
    weights.save_state(path, state, dtype, metadata)


def read_metadata(path: str | Path) -> dict[str, str]:
    """Return the metadata of a safetensors file. Raises ModelError where it cannot be read as one."""
    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise ModelError(f"model {path}: cannot be read as safetensors: {error}".splitlines()[0]) from error


def load_model(
    path: str | Path, architecture: str, build: Callable[[dict[str, Any]], Net]
) -> tuple[Net, tuple[str, ...]]:
    """A frozen float32 network in eval mode and channels-last memory, on the CPU; and its class names.

    build: makes the network from the numbers it was saved with; it may raise ValueError, KeyError or TypeError.
    Raises ModelError, in one line, where the file is damaged, of another architecture, or does not fit its numbers.
    """
    metadata = read_metadata(path)
    found = metadata.get("architecture", "something else")
    if found != architecture:
        raise ModelError(f"model {path}: holds {found}; needed: {architecture}")
    try:
        net, classes = build(json.loads(metadata["numbers"])), json.loads(metadata["classes"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"model {path}: its metadata is no {architecture}: {error}".splitlines()[0]) from error
    try:
        net.load_state_dict(weights.load_state(path))
    except RuntimeError as error:
        reason = one_line(error, 200)
        raise ModelError(f"model {path}: weights do not fit its own numbers: {reason}") from error
    net.eval().requires_grad_(False)
    for parameter in net.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return net, tuple(str(name) for name in classes)
