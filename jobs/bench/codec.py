"""`bench codec`: what any program on this machine can reach at most, decoding and encoding the same images.

As many processes as the bench has workers; each decodes and encodes again the images of `bench light`, and does nothing
else, for some seconds. By this product's codecs and by Pillow's, JPEG in and JPEG or PNG out.
"""

import datetime
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from statistics import median
from typing import Any, Final

from jobs.bench.comparison import limited_cores
from jobs.bench.contestants.task import CASES, JPEG_QUALITY, WORKERS
from jobs.bench.machine import commit, machine, versions

SECONDS: Final = 4.0
IMAGES: Final = 64
WAYS: Final = {
    "palimpsest, JPEG out": ("palimpsest", "jpeg"),
    "Pillow, JPEG out": ("pillow", "jpeg"),
    "palimpsest, PNG out": ("palimpsest", "png"),
    "Pillow, PNG out, its default level": ("pillow", "png"),
}


def measure(rounds: int, seconds: float = SECONDS) -> dict[str, Any]:
    """Return images per second of each way over all processes: medians of `rounds` taken in turn."""
    size = CASES["light"].size_px
    found: dict[str, list[float]] = {name: [] for name in WAYS}
    context = multiprocessing.get_context("spawn")
    with limited_cores(WORKERS), ProcessPoolExecutor(WORKERS, mp_context=context) as pool:
        for round_ in range(1, rounds + 1):
            for name, way in WAYS.items():
                start = time.time() + 1.0  # all begin at once, with their images ready
                runs = [pool.submit(speed, *way, size, seed, start, seconds) for seed in range(WORKERS)]
                found[name].append(sum(run.result() for run in runs))
                print(f"round {round_} of {rounds}: {name:<36} {found[name][-1]:8.1f} images/s", file=sys.stderr)
    return {
        "bench": "codec",
        "images_per_s": {name: round(median(speeds), 1) for name, speeds in found.items()},
        "machine": machine(),
        "commit": commit(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "rounds": rounds,
        "settings": {"size_px": size, "workers": WORKERS, "jpeg_quality": JPEG_QUALITY},
        "versions": versions(),
    }


def speed(by: str, encoding: str, size_px: int, seed: int, start: float, seconds: float) -> float:
    """Return images per second decoded and encoded by this process, from `start` on (time of day, s)."""
    from jobs.bench.contestants.pillow_images import encode
    from jobs.bench.synthetic_photographs import photograph

    images = [encode(photograph(seed * IMAGES + place, size_px)) for place in range(IMAGES)]
    convert = ours if by == "palimpsest" else pillows
    for image in images:
        convert(image, encoding)  # loads what is loaded once
    time.sleep(max(0.0, start - time.time()))
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        convert(images[count % IMAGES], encoding)
        count += 1
    return count / (time.perf_counter() - began)


def ours(data: bytes, encoding: Any) -> bytes:
    """Decode and encode an image by this product's codecs."""
    from pipeline.shards.images.codecs import decode, encode

    return encode(decode(data, 10**8), encoding, JPEG_QUALITY)


def pillows(data: bytes, encoding: str) -> bytes:
    """Decode and encode an image by Pillow, as scripts do."""
    import io

    import numpy as np
    from PIL import Image

    pixels, out = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")), io.BytesIO()
    settings = {"quality": JPEG_QUALITY} if encoding == "jpeg" else {}
    Image.fromarray(pixels).save(out, encoding, **settings)
    return out.getvalue()


def as_text(found: dict[str, Any]) -> str:
    """Return the figures as a small table."""
    lines = [f"{WORKERS} processes, {found['machine']}, commit {found['commit'][:12]}", ""]
    return "\n".join([*lines, *(f"{name:<36}{each:>10.1f} images/s" for name, each in found["images_per_s"].items())])
