"""The mark on the device: written and read in batches, one image a call, and on the CPU."""

from collections.abc import Callable, Iterator
from typing import Any

from jobs.bench.gpu.clock import Contestant
from jobs.bench.gpu.setting import Setting, pictures
from pipeline.watermark.payload import payload
from pipeline.watermark.stdm import Stdm

KEY = bytes(range(32))


def mark(setting: Setting) -> Iterator[tuple[str, dict[str, Any]]]:
    """Images a second at each size."""
    sizes = setting.sizes
    for side in sizes.mark_px:
        here, cpu = Stdm(KEY, device=setting.device), Stdm(KEY)
        all_, few = sizes.mark_images, sizes.mark_loop_images
        contestants = {
            "embed": Contestant(_embed(here, side, all_), all_, all_),
            "read": Contestant(_read(here, side, all_), all_, all_),
            "embed_one_a_call": Contestant(_embed(here, side, 1), few, 1),
            "embed_on_cpu": Contestant(_embed(cpu, side, few), few, 1),
        }
        found = setting.clock().contest(contestants, "embed")
        yield f"mark_{side}_px", {"what": f"mark of 64 bits, {side} px, 42 dB; CPU: one thread", **found}


def _embed(stdm: Stdm, side: int, batch: int) -> Callable[[int, int], None]:
    def make(first: int, count: int) -> None:
        for start in range(first, first + count, batch):
            some = min(batch, first + count - start)
            names = [f"{index:032x}" for index in range(start, start + some)]
            stdm.embed(pictures(side, start, some), [payload(KEY, name) for name in names])

    return make


def _read(stdm: Stdm, side: int, batch: int) -> Callable[[int, int], None]:
    def make(first: int, count: int) -> None:
        for start in range(first, first + count, batch):
            stdm.read(pictures(side, start, min(batch, first + count - start)))

    return make
