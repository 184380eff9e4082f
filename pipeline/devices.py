"""What output bytes depend on beside the recipe: package versions, the device model, and deterministic arithmetic.

Where all three are equal, equal inputs make equal bytes; so each is written down.
"""

import ctypes
import functools
import importlib.metadata
import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
FIXED_WORKSPACES = (":4096:8", ":16:8")
"""Workspace settings with which cuBLAS is deterministic; it reads them when it is first used."""


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc


def installed_versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of those packages that are installed."""
    return {name: version for name in packages if (version := _version(name)) is not None}


@functools.cache  # reading metadata takes a millisecond, and a process keeps what it imported
def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # a run in one process needs no Ray
        return None


def device_model(device: str) -> str:
    """Return the model of a device as its maker writes it: `cpu (AMD EPYC 7B13)`, `NVIDIA H100 80GB HBM3`."""
    if device == "cpu":
        return f"cpu ({processor()})"
    import torch

    return torch.cuda.get_device_name(device)


def device_for_model(model: str) -> str:
    """Return the local device for a `device_model`: `cuda` for a GPU if there is one here, else `cpu`."""
    if not model or model.startswith("cpu"):
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def keep_freed_memory() -> bool:
    """Let this process keep up to 256 MiB of freed memory for its next images; return whether its C library can.

    glibc gives memory above 128 kB back to the system, and a later image pays for each page anew: 0.1 of 1.1 ms of a
    JPEG of 256 px. Blocks of 32 MiB and more are still given back.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_TRIM_THRESHOLD, 256 << 20)) and bool(mallopt(_M_MMAP_THRESHOLD, 32 << 20))


@functools.cache
def processor() -> str:
    """Return the model of this machine's processor."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def set_deterministic(device: str, threads: int, tf32: bool = False) -> None:
    """Make torch deterministic in this process: threads, TF32 and algorithms.

    On a CPU the number of threads. On a GPU also: products and convolutions of float32 keep all 24 bits of it (or 11,
    TF32), cuDNN does not choose algorithms by timing, and every library takes those that add in a fixed order; where
    there is none, PyTorch warns.
    """
    import torch

    torch.set_num_threads(threads)
    if device == "cpu":
        return
    if os.environ.get(WORKSPACE) not in FIXED_WORKSPACES:
        os.environ[WORKSPACE] = FIXED_WORKSPACES[0]
    backends: Any = torch.backends  # its parts' settings are properties that its own annotations leave out
    backends.cuda.matmul.allow_tf32 = tf32  # first the older names: setting those puts both in one state
    backends.cudnn.allow_tf32 = tf32
    for part in (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn):
        part.fp32_precision = "tf32" if tf32 else "ieee"
    backends.cudnn.benchmark = False
    backends.cudnn.deterministic = True
    torch.use_deterministic_algorithms(True, warn_only=True)
    filling: Any = torch.utils.deterministic
    filling.fill_uninitialized_memory = False  # every operator writes what it reads
