"""LoRA adapters, merged into a model's weights when it is loaded: W + scale * (alpha / rank) * up @ down.

Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", arXiv:2106.09685, section 4.1. Merged weights cost
nothing while images are made. Files of diffusers, PEFT and kohya are read; diffusers turns the third into the first.
"""

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from pipeline.errors import ModelError
from pipeline.messages import one_line

METADATA_KEY = "lora_adapter_metadata"
_FACTOR = re.compile(r"(?P<layer>.+?)[._](lora[._])?(?P<side>A|B|down|up)(\.\w+)?\.weight$|(?P<scaled>.+)\.alpha$")
_ATTENTION = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}  # of text encoders


def merge_lora(model: Any, path: str | Path, scale: float) -> int:
    """Add an adapter to a pipeline's networks, in place; return how many layers it changed.

    Args:
        model: has the networks as attributes: `unet`, `transformer`, `text_encoder`, ...
        path: a `.safetensors` file, or a folder with one.
        scale: 1 is the adapter as it was trained, 0 none of it.

    Raises:
        ModelError: not a LoRA file, of a kind that cannot be merged, or for another architecture.
    """
    file = _file(path)
    tensors, settings = _read(file)
    converted, alphas = _converted(model, tensors, file)
    layers = _layers({**converted, **{name: torch.tensor(float(value)) for name, value in alphas.items()}}, file)
    for name, parts in layers.items():
        if "down" not in parts or "up" not in parts:
            raise ModelError(f"LoRA {file}: layer {name} has one factor of two")
        found = _module(model, name)
        if found is None:
            raise ModelError(f"LoRA {file}: the model has no layer {name}; the adapter is for another architecture")
        _add(found, name, parts, scale * _ratio(name, parts, settings), file)
    return len(layers)


def _file(path: str | Path) -> Path:
    files = sorted(Path(path).glob("*.safetensors")) if Path(path).is_dir() else [Path(path)]
    if len(files) != 1:
        raise ModelError(f"LoRA {path}: {len(files)} .safetensors files in the folder; name the file")
    return files[0]


def _read(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(str(file), framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no mapping
            settings = json.loads((opened.metadata() or {}).get(METADATA_KEY, "{}"))
    except (OSError, SafetensorError, ValueError) as error:
        raise ModelError(f"LoRA {file}: cannot be read as safetensors: {one_line(error)}") from None
    if any("dora" in name or "magnitude" in name or "lokr" in name or "hada" in name for name in tensors):
        raise ModelError(f"LoRA {file}: DoRA, LoKr and LoHa adapters cannot be merged; export it as plain LoRA")
    return tensors, settings


def _converted(model: Any, tensors: dict[str, Tensor], file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return tensors under diffusers' names, and alphas by layer; unchanged for a model without a converter."""
    reader = getattr(type(model), "lora_state_dict", None)
    if reader is None:
        return tensors, {}
    unet = getattr(model, "unet", None)
    try:
        found = reader(tensors, **({"unet_config": unet.config} if unet is not None else {}))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"LoRA {file}: not understood: {one_line(error, 200)}") from None
    if isinstance(found, tuple):
        return found[0], found[1] or {}
    return found, {}


def _layers(tensors: dict[str, Tensor], file: Path) -> dict[str, dict[str, Tensor]]:
    layers: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in tensors.items():
        matched = _FACTOR.match(name)
        if matched is None:
            raise ModelError(f"LoRA {file}: {name} is no factor of a LoRA layer")
        side = {"A": "down", "B": "up", None: "alpha"}.get(matched["side"], matched["side"])
        layers[_plain(matched["layer"] or matched["scaled"])][side] = tensor
    return {name: parts for name, parts in layers.items() if set(parts) != {"alpha"}}


def _plain(name: str) -> str:
    """Return the module path of a LoRA layer's name."""
    name = re.sub(r"[._]lora(_linear_layer)?(\.down\.weight)?$", "", name).replace(".processor.", ".")
    above, _, last = name.rpartition(".")
    if above.endswith("self_attn"):
        return f"{above}.{_ATTENTION.get(last, last)}"
    return f"{name}.0" if last == "to_out" else name


def _module(model: Any, name: str) -> Any:
    """Return the layer of this name, or None. Older files name a `text_model` that transformers 5 no longer has."""
    for tried in (name, name.replace(".text_model.", "."), name.replace("text_encoder.", "text_encoder.text_model.")):
        found = model
        for part in tried.split("."):
            found = getattr(found, part, None)
        if isinstance(found, nn.Linear | nn.Conv2d):
            return found
    return None


def _ratio(name: str, parts: dict[str, Tensor], settings: dict[str, Any]) -> float:
    """Return alpha / rank (rank-stabilised: alpha / sqrt(rank)); without an alpha in the file, alpha is the rank."""
    rank = len(parts["down"])
    component = name.split(".", 1)[0]
    alpha = float(parts["alpha"]) if "alpha" in parts else float(settings.get(f"{component}.lora_alpha", rank))
    return alpha / (rank**0.5 if settings.get(f"{component}.use_rslora") else rank)


@torch.no_grad()
def _add(layer: nn.Linear | nn.Conv2d, name: str, parts: dict[str, Tensor], scale: float, file: Path) -> None:
    down, up = parts["down"].float(), parts["up"].float()
    product = up.flatten(1) @ down.flatten(1)
    if product.numel() != layer.weight.numel() or len(product) != len(layer.weight):
        raise ModelError(
            f"LoRA {file}: layer {name} is {tuple(product.shape)}, the model's {tuple(layer.weight.shape)}; the "
            "adapter is for another architecture"
        )
    layer.weight += (scale * product).view_as(layer.weight).to(layer.weight)
