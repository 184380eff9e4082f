"""Speed of embedding and reading the watermark: in batches, one image a call, and on the CPU."""

from collections.abc import Iterator
from typing import Any

from jobs.bench.gpu.setting import Setting
from jobs.bench.gpu.timing import Contestant, Make
from pipeline.contracts import Pixels
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
            "embed": Contestant(_embed(here, all_), all_, all_, side),
            "read": Contestant(_read(here, all_), all_, all_, side),
            "embed_one_a_call": Contestant(_embed(here, 1), few, 1, side),
            "embed_on_cpu": Contestant(_embed(cpu, few), few, 1, side),
        }
        found = setting.clock().compare(contestants, "embed")
        yield f"mark_{side}_px", {"what": f"mark of 64 bits, {side} px, 42 dB; CPU: one thread", **found}


def _embed(stdm: Stdm, batch: int) -> Make:
    def make(numbers: range, sources: Pixels | None) -> None:
        assert sources is not None
        for start in range(0, len(numbers), batch):
            words = [payload(KEY, f"{number:032x}") for number in numbers[start : start + batch]]
            stdm.embed(sources[start : start + batch], words)

    return make


def _read(stdm: Stdm, batch: int) -> Make:
    def make(numbers: range, sources: Pixels | None) -> None:
        assert sources is not None
        for start in range(0, len(numbers), batch):
            stdm.read(sources[start : start + batch])

    return make
