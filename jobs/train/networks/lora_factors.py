"""LoRA factors while they are trained: beside the attention layers of a network, whose own weights stay as they are.

Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", arXiv:2106.09685, section 4.1: W x + alpha / rank
B A x, A drawn, B zero, so that the start changes nothing. `pipeline/diffusion/lora.py` merges these files.
"""

import json
import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.diffusion.lora import METADATA_KEY
from pipeline.model_files import weights

LAYERS = ("to_k", "to_out.0", "to_q", "to_v")
"""Endings of the names of the layers that are adapted: the four of an attention (section 4.2)."""


class LoraFactors(nn.Module):
    """Factors A [rank, inward] and B [outward, rank] of each attention layer of a network, in use at once.

    Raises ValueError where the network has no such layer.
    """

    def __init__(self, network: nn.Module, rank: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__()
        layers = {name: layer for name, layer in network.named_modules() if name.endswith(LAYERS)}
        adapted = {name: layer for name, layer in layers.items() if isinstance(layer, nn.Linear)}
        if not adapted:
            raise ValueError("there is no attention layer to adapt")
        self.names, self.rank, self.alpha = tuple(adapted), rank, alpha
        self.down, self.up = nn.ParameterList(), nn.ParameterList()
        for layer in adapted.values():
            drawn = torch.randn(rank, layer.in_features, generator=generator) / math.sqrt(layer.in_features)
            self.down.append(nn.Parameter(drawn))
            self.up.append(nn.Parameter(torch.zeros(layer.out_features, rank)))
        for place, layer in enumerate(adapted.values()):
            layer.register_forward_hook(self._adding(place))

    def _adding(self, place: int) -> Any:
        def add(_: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> Tensor:
            inner = F.linear(given[0], self.down[place])
            return made + self.alpha / self.rank * F.linear(inner, self.up[place])

        return add


def save_lora(path: str | Path, factors: LoraFactors, component: str = "unet", about: str = "") -> None:
    """Write the factors as PEFT and diffusers name them, as float32, whole or not at all.

    component: which network of a pipeline they are for.
    """
    tensors: dict[str, Tensor] = {}
    for name, down, up in zip(factors.names, factors.down, factors.up, strict=True):
        tensors[f"{component}.{name}.lora_A.weight"] = down
        tensors[f"{component}.{name}.lora_B.weight"] = up
    settings = {"r": factors.rank, "lora_alpha": factors.alpha, "target_modules": list(LAYERS)}
    fields = {f"{component}.{name}": value for name, value in settings.items()}
    metadata = {METADATA_KEY: json.dumps(fields, sort_keys=True), "format": "pt", "about": about}
    weights.save_state(path, tensors, torch.float32, metadata)
