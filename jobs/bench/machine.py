"""The hardware, software versions and commit that a figure was measured with."""

import os
import platform
import shutil
import subprocess
from pathlib import Path

from pipeline.devices import installed_versions, processor

PACKAGES = ("ray", "torch", "diffusers", "transformers", "pyarrow", "pillow", "numpy")
ROOT = Path(__file__).resolve().parents[2]


def machine() -> str:
    """Return processor, cores and memory in words. No host name."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
    memory = f"{pages / 2**30:.0f} GiB, " if pages > 0 else ""
    return f"{processor()}, {cores} cores, {memory}{platform.system()} {platform.machine()}"


def quick_dtype() -> str:
    """Return the type that networks compute fastest in on this processor: bfloat16 where it has instructions for it."""
    import torch

    from pipeline.networks.precision import has_bfloat16

    return "bfloat16" if has_bfloat16(torch.device("cpu")) else "float32"


def commit() -> str:
    """Return the commit of this source tree, `-dirty` where files differ from it; `unknown` outside a repository."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        return "unknown"
    found = _git(git, "rev-parse", "HEAD")
    if found is None:
        return "unknown"
    return f"{found}-dirty" if _git(git, "status", "--porcelain", "--untracked-files=no") else found


def _git(git: str, *arguments: str) -> str | None:
    done = subprocess.run([git, "--no-optional-locks", *arguments], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


def versions() -> dict[str, str]:
    """Return the versions of Python and the packages that decide the figures."""
    return {"python": platform.python_version(), **installed_versions(PACKAGES)}
