"""A cache on disk that the processes of a node share: tensors computed once, keyed by what they depend on.

`PALIMPSEST_CACHE` names it; otherwise it is `~/.cache/palimpsest`. Whatever is in it can be made again.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import Tensor

from pipeline.caches import cache_folder
from pipeline.errors import ModelError
from pipeline.model_files import weights
from pipeline.seeding import digest

_log = logging.getLogger(__name__)


def cached_tensors(key: list[Any], device: str, make: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the tensors, on the CPU, that `make` returns, from the cache where another call has stored them.

    One process makes them while others that need the same wait. A folder that cannot be written to, or a file that
    is damaged, costs the time to make them again, and nothing else.

    Args:
        key: JSON values of everything that the tensors depend on, beside PyTorch, its threads and the processor.
        device: what they are computed on.
    """
    on_gpu = torch.device(device).type == "cuda"
    processor = torch.cuda.get_device_name(device) if on_gpu else torch.backends.cpu.get_cpu_capability()
    here = [torch.__version__, torch.get_num_threads(), processor]
    path = cache_folder() / f"{digest([*key, *here])}.safetensors"
    with _locked(path):
        if path.is_file():
            try:
                return weights.load_state(path)
            except ModelError as error:
                _log.warning("%s: made again", error)
        made = {name: value.cpu() for name, value in make().items()}
        with contextlib.suppress(OSError):
            weights.save_state(path, made)
        return made


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the file lock of a cache entry, where the system has such locks; it ends with the process that holds it."""
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError, NotImplementedError):
            path.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(FileLock(f"{path}.lock"))
        yield
