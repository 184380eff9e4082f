"""Weight files: state dicts read from and written to disk without pickle."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from pipeline.errors import ModelError

State = dict[str, Tensor]
M = TypeVar("M", bound=nn.Module)


def load_state(path: str | Path) -> State:
    """State dict of a `.safetensors` file, or of a `.pth`/`.pt` file read with `weights_only`, on the CPU.

    Floating-point tensors come back as float32, whatever they are stored as. Raises ModelError for a missing or
    damaged file, another suffix, or a file that holds anything else than tensors by name.
    """
    path = Path(path)
    if path.suffix not in (".safetensors", ".pth", ".pt"):
        raise ModelError(f"weights {path}: suffix {path.suffix!r} is not known; give a .safetensors or .pth file")
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise ModelError(f"weights {path}: cannot be read: {error}".splitlines()[0]) from error
    except Exception as error:
        # torch.load raises pickle.UnpicklingError for content that weights_only refuses.
        raise ModelError(f"weights {path}: not a plain state dict: {type(error).__name__}") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelError(f"weights {path}: holds something else than tensors by name")
    return {name: value.float() if value.is_floating_point() else value for name, value in state.items()}


def save_state(
    path: str | Path,
    state: Mapping[str, Tensor],
    dtype: torch.dtype | None = None,
    metadata: dict[str, str] | None = None,
) -> None:
    """Write a state dict as safetensors, whole or not at all (temporary file, then rename).

    Args:
        dtype: what floating-point tensors are stored as; None keeps each as it is.
        metadata: what the file is to say of itself.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = {}
    for name, value in state.items():
        value = value.detach().cpu()
        if dtype is not None and value.is_floating_point():
            value = value.to(dtype)
        stored[name] = value.contiguous().clone()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "wb") as file:
        file.write(in_order(save(stored, metadata)))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def fill(network: M, state: State, path: str | Path, what: str) -> M:
    """Put a file's state into a network and return it frozen, in eval mode, channels last.

    Args:
        path: of the file, for messages.
        what: the network, for messages: `an AdaIN encoder`.

    Raises:
        ModelError: a name is missing or has no place, or a shape is another one; in one line.
    """
    wanted = network.state_dict()
    for name in sorted(wanted.keys() | state.keys()):
        if name not in state:
            raise ModelError(f"weights {path}: not {what}: {name} is missing")
        if name not in wanted:
            raise ModelError(f"weights {path}: not {what}: {name} has no place in it")
        if state[name].shape != wanted[name].shape:
            found, needed = tuple(state[name].shape), tuple(wanted[name].shape)
            raise ModelError(f"weights {path}: not {what}: {name} has shape {found}, not {needed}")
    network.load_state_dict(state)
    return network.requires_grad_(False).eval().to(memory_format=torch.channels_last)


def under_prefix(state: Mapping[str, Tensor], prefix: str) -> State:
    """The entries whose name starts with `prefix`, with the prefix cut off."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def in_order(file: bytes) -> bytes:
    """Return a safetensors file with its header's entries sorted: the library writes metadata in a random order.

    Offsets in the header count from its end, so it may change its length; it is padded to a multiple of 8 bytes.
    """
    length = int.from_bytes(file[:8], "little")
    header = json.loads(file[8 : 8 + length])
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + file[8 + length :]
