"""Half precision: networks whose weights are cast once, or calls under autocast where a network does not allow that.

bfloat16 keeps float32's range and 8 bits of a number; float16 keeps 11 bits, and what exceeds 65,504 becomes infinite:
images that are not finite are rejected where they come out. Sampler states, noise and sums over images stay float32.
"""

import contextlib
from copy import deepcopy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


def dtype_of(name: str) -> torch.dtype:
    """Return the torch dtype called `float32`, `bfloat16` or `float16`."""
    found: torch.dtype = getattr(torch, name)
    return found


def cast_network(net: M, name: str, channels_last: bool = True) -> M:
    """Cast a network's parameters and stored buffers in place, and put convolutions in channels-last memory.

    What its class declares as float32 stays so (T5's last projections overflow in float16); buffers that no file holds,
    such as tables of angles, stay as they are.
    """
    dtype = dtype_of(name)
    kept = set(getattr(net, "_keep_in_fp32_modules_strict", None) or ())
    if dtype == torch.float16:
        kept |= set(getattr(net, "_keep_in_fp32_modules", None) or ())
    for key, tensor in net.state_dict(keep_vars=True).items():
        if tensor.is_floating_point() and not kept & set(key.split(".")):
            tensor.data = tensor.data.to(dtype)
        if channels_last and tensor.dim() == 4:
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
    return net


class CastNetwork(nn.Module):
    """A copy of a network that computes in another dtype, with float32 input and output."""

    def __init__(self, net: nn.Module, name: str) -> None:
        super().__init__()
        self.net, self.dtype = cast_network(deepcopy(net), name), dtype_of(name)

    def forward(self, images: Tensor) -> Tensor:
        made: Tensor = self.net(images.to(self.dtype))
        return made.float()


def with_dtype(net: nn.Module, name: str) -> nn.Module:
    """Return a copy of a network that computes in the dtype `name`, or the network itself for float32."""
    return net if name == "float32" else CastNetwork(net, name)


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device has bfloat16 instructions; emulated bfloat16 is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    features = torch.cpu.get_capabilities()
    return bool(features.get("avx512_bf16") or features.get("amx_bf16"))


def autocast(device: str, name: str) -> Any:
    """Return torch's autocast context for a dtype; for `float32` a context that does nothing."""
    if name == "float32":
        return contextlib.nullcontext()
    return torch.autocast(torch.device(device).type, dtype_of(name))
