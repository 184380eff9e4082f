"""What `pin_arithmetic` sets for a whole process, put back after a test."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from pipeline.devices import WORKSPACE

_backends: Any = torch.backends
PARTS = (_backends.cuda.matmul, _backends.cudnn.conv, _backends.cudnn.rnn)
"""What has a precision of its own."""


@contextmanager
def arithmetic_kept() -> Iterator[None]:
    """Put back afterwards what was set before."""
    threads, workspace = torch.get_num_threads(), os.environ.get(WORKSPACE)
    older = _backends.cuda.matmul.allow_tf32, _backends.cudnn.allow_tf32
    precisions = [part.fp32_precision for part in PARTS]
    cudnn = _backends.cudnn.benchmark, _backends.cudnn.deterministic
    ordered, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filling: Any = torch.utils.deterministic
    filled = filling.fill_uninitialized_memory
    try:
        yield
    finally:
        _backends.cuda.matmul.allow_tf32, _backends.cudnn.allow_tf32 = older  # first: these set the parts, too
        for part, precision in zip(PARTS, precisions, strict=True):
            part.fp32_precision = precision
        _backends.cudnn.benchmark, _backends.cudnn.deterministic = cudnn
        torch.use_deterministic_algorithms(ordered, warn_only=warns)
        filling.fill_uninitialized_memory = filled
        torch.set_num_threads(threads)
        os.environ.pop(WORKSPACE, None)
        if workspace is not None:
            os.environ[WORKSPACE] = workspace
