"""What the actors of a node make once and share: a folder of the user's own, by content.

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
    """Return the tensors, on the CPU, that `make` returns: its own, or those it returned to another process before.

    One process makes them while others that ask for the same wait. A folder that cannot be written to, or a file that
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
    """Hold the lock of a file of the cache, where there can be one; it is free when its holder ends, however."""
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError, NotImplementedError):
            path.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(FileLock(f"{path}.lock"))
        yield
