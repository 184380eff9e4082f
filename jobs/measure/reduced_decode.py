"""What `input.reduced_decode` gains and changes, on photographs of a folder of shards.

`python -m jobs.measure.reduced_decode FOLDER [--images 200] [--rounds 5]` prints one JSON object: seconds of a core and
peak memory to make 256 px of a JPEG of 24 and 12 megapixels (photographs side by side, quality 90), in full and at
reduced scale; and how near to a full decode the images are, PSNR in dB, where the reduced image has once, twice (what
the option keeps) and three times the target.
"""

import argparse
import datetime
import io
import json
import math
import multiprocessing
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from jobs.bench.machine import commit, machine, versions
from pipeline.contracts import Pixels
from pipeline.shards.images.codecs import decode, decode_square_reduced, fit_square
from pipeline.shards.images.jpeg import Frame, decode_reduced

SIZES: Final = {"24": (4_000, 6_000), "12": (3_000, 4_000)}
TARGET_PX: Final = 256
MAX_PIXELS: Final = 10**8
FACTORS: Final = (2, 4, 8)
OVERSAMPLING: Final = (1, 2, 3)


def photographs(folder: Path, count: int) -> Iterator[bytes]:
    """Yield the first encoded images of the shards in a folder."""
    left = count
    for shard in sorted(folder.glob("*.parquet")):
        for batch in pq.ParquetFile(shard).iter_batches(64, columns=["image"]):
            found = [image["bytes"] for image in batch.column(0).to_pylist()][:left]
            left -= len(found)
            yield from found
            if not left:
                return


def side_by_side(images: Sequence[bytes], height: int, width: int) -> bytes:
    """Return one JPEG of that size, quality 90, filled with photographs."""
    sheet, place = Image.new("RGB", (width, height)), 0
    tile = Image.open(io.BytesIO(images[0])).size
    for top in range(0, height, tile[1]):
        for left in range(0, width, tile[0]):
            sheet.paste(Image.fromarray(decode(images[place % len(images)], MAX_PIXELS)), (left, top))
            place += 1
    out = io.BytesIO()
    sheet.save(out, "JPEG", quality=90)
    return out.getvalue()


def in_full(data: bytes) -> Pixels:
    """Return [256, 256, 3] of a full decode."""
    return fit_square(decode(data, MAX_PIXELS), TARGET_PX)


def reduced(data: bytes) -> Pixels:
    """Return [256, 256, 3] as the option makes it."""
    found = decode_square_reduced(data, MAX_PIXELS, TARGET_PX)
    assert found is not None
    return found[0]


def cost(way: str, data: bytes, rounds: int) -> tuple[float, float]:
    """Return median seconds of processor time, and by how much peak memory grew in this process, MiB."""
    make = {"in full": in_full, "reduced": reduced}[way]
    before = memory_mib("VmRSS")
    times = []
    for _ in range(rounds):
        begun = time.process_time()
        make(data)
        times.append(time.process_time() - begun)
    return round(median(times), 4), round(memory_mib("VmHWM") - before, 1)


def memory_mib(line: str) -> float:
    """Return the resident memory of this process, MiB: now (`VmRSS`), or at most (`VmHWM`). Linux only."""
    status = Path("/proc/self/status").read_text()
    return next(int(each.split()[1]) for each in status.splitlines() if each.startswith(f"{line}:")) / 1024


def costs(images: Sequence[bytes], rounds: int) -> dict[str, Any]:
    """Return seconds and MiB by megapixels and way, each in a process of its own."""
    found: dict[str, Any] = {}
    context = multiprocessing.get_context("spawn")
    for name, size in SIZES.items():
        data = side_by_side(images, *size)
        for way in ("in full", "reduced"):
            with context.Pool(1) as pool:
                seconds, grown = pool.apply(cost, (way, data, rounds))
            found[f"{name} megapixels, {way}"] = {"cpu_s": seconds, "peak_mib": grown}
    return found


def nearness(images: Sequence[bytes]) -> dict[str, dict[str, float]]:
    """Return median and lowest PSNR (dB) against a full decode, by scale and by how much larger it is than needed."""
    found: dict[str, list[float]] = {}
    for data in images:
        whole = decode(data, MAX_PIXELS)
        height, width, channels = whole.shape
        for factor in FACTORS:
            small = decode_reduced(data, Frame(height, width, channels), factor)
            if small is None:
                continue
            for times in OVERSAMPLING:
                n = min(height, width) // factor // times
                near = psnr(fit_square(whole, n), middle(small, (height, width), factor, n))
                found.setdefault(f"1/{factor}, {times} x", []).append(near)
    return {name: {"median": round(median(each), 1), "lowest": round(min(each), 1)} for name, each in found.items()}


def middle(small: Pixels, whole: tuple[int, int], factor: int, n: int) -> Pixels:
    """Return the middle square of an image [H / factor, W / factor, 3] of `whole` (H, W) pixels, as [n, n, 3]."""
    side = min(whole)
    top, left = ((length - side) / 2 for length in whole)
    box = left / factor, top / factor, (left + side) / factor, (top + side) / factor
    return np.asarray(Image.fromarray(small).resize((n, n), Image.Resampling.BICUBIC, box=box))


def psnr(one: Pixels, other: Pixels) -> float:
    """Return the peak signal-to-noise ratio of two images [H, W, C], dB."""
    error = float(np.mean((one.astype(np.float64) - other) ** 2))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def main() -> None:
    """Measure, and print the figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m jobs.measure.reduced_decode", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    images = list(photographs(options.folder, options.images))
    found = {
        "costs": costs(images, options.rounds),
        "psnr_db": nearness(images),
        "images": len(images),
        "machine": machine(),
        "commit": commit(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions(),
    }
    json.dump(found, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
