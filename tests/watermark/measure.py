"""Prints what the mark survives and how fast it is: a script, run by hand (`python -m tests.watermark.measure
--help`).

One row a size and kind of image: detection rate (payload read and right) of N images after each attack, mean PSNR and
SSIM, images a second (processor time of one thread). Photographs come from `--photos`, Parquet files with an `image`
column; without it, the style images of `pipeline/assets/styles`, turned and flipped.
"""

import argparse
import glob
import io
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import torch
from PIL import Image, ImageOps

from pipeline.watermark.payload import payload
from pipeline.watermark.stdm import Reading, Stdm

ASSETS = Path(__file__).resolve().parents[2] / "pipeline" / "assets"
Pixels = npt.NDArray[np.uint8]


def recoded(image: Pixels, kind: str, **options: int) -> Pixels:
    """Encode and decode one [H, W, C] image with Pillow."""
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(buffer, kind, **options)
    return shaped(Image.open(buffer), image.shape[2])


def resized(image: Pixels, factor: float, how: Image.Resampling = Image.Resampling.BICUBIC) -> Pixels:
    """Resize one image."""
    size = round(image.shape[1] * factor), round(image.shape[0] * factor)
    return shaped(Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).resize(size, how), image.shape[2])


def shaped(image: Image.Image, channels: int) -> Pixels:
    """Return [H, W, channels] uint8."""
    pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(*pixels.shape[:2], channels)


def noisy(image: Pixels, sigma: float) -> Pixels:
    """Add Gaussian noise, the same for the same shape."""
    noise = np.random.default_rng(5).normal(0, sigma, image.shape)
    return np.clip(np.round(image + noise), 0, 255).astype(np.uint8)


def brighter(image: Pixels, factor: float) -> Pixels:
    """Scale the grey levels."""
    return np.clip(np.round(image * factor), 0, 255).astype(np.uint8)


def cropped(image: Pixels, share: float) -> Pixels:
    """Cut out the centre."""
    height, width = image.shape[:2]
    top, left = round(height * (1 - share) / 2), round(width * (1 - share) / 2)
    return image[top : height - top, left : width - left]


ATTACKS: dict[str, Callable[[Pixels], Pixels]] = {
    "png": lambda image: recoded(image, "PNG"),
    "jpeg90": lambda image: recoded(image, "JPEG", quality=90),
    "jpeg75": lambda image: recoded(image, "JPEG", quality=75),
    "jpeg50": lambda image: recoded(image, "JPEG", quality=50),
    "jpeg30": lambda image: recoded(image, "JPEG", quality=30),
    "webp80": lambda image: recoded(image, "WEBP", quality=80),
    "half": lambda image: resized(image, 0.5),
    "third": lambda image: resized(image, 1 / 3, Image.Resampling.BILINEAR),
    "double": lambda image: resized(image, 2.0),
    "noise5": lambda image: noisy(image, 5.0),
    "light+20": lambda image: brighter(image, 1.2),
    "light-30": lambda image: brighter(image, 0.7),
    "crop.95": lambda image: cropped(image, 0.95),
}


def ssim(first: Pixels, second: Pixels, window: int = 7) -> float:
    """Return the mean structural similarity of two [H, W, C] images, uniform window (Wang et al. 2004, eq. 13)."""

    def mean(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        sums = np.pad(values.cumsum(0).cumsum(1), ((1, 0), (1, 0), (0, 0)))
        inner = sums[window:, window:] - sums[:-window, window:] - sums[window:, :-window] + sums[:-window, :-window]
        return inner / window**2

    x, y = first.astype(np.float64), second.astype(np.float64)
    mean_x, mean_y = mean(x), mean(y)
    var_x, var_y, both = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2, mean(x * y) - mean_x * mean_y
    small, large = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    ratio = (2 * mean_x * mean_y + small) * (2 * both + large)
    return float((ratio / ((mean_x**2 + mean_y**2 + small) * (var_x + var_y + large))).mean())


def fashion(count: int) -> Pixels:
    """Return [count, 28, 28, 1] product images of the embedded shards."""
    return _stored(sorted(glob.glob(str(ASSETS / "fashion-mnist" / "*.parquet"))), count, None, 1)


def photos(count: int, size: tuple[int, int], channels: int, pattern: str | None) -> Pixels:
    """Return [count, *size, channels] photographs."""
    if pattern:
        return _stored(sorted(glob.glob(pattern)), count, size, channels)
    files = [Image.open(path).convert("RGB") for path in sorted((ASSETS / "styles").glob("*.jpg"))]
    turned = [image.transpose(way) for way in Image.Transpose for image in files]
    turned += [ImageOps.invert(image) for image in [*files, *turned]]
    small = [image.resize(size[::-1], Image.Resampling.BICUBIC) for image in turned[:count]]
    return np.stack([shaped(image, channels) for image in small])


def _stored(paths: list[str], count: int, size: tuple[int, int] | None, channels: int) -> Pixels:
    found: list[Pixels] = []
    for path in paths:
        for cell in pq.read_table(path, columns=["image"]).column(0).slice(0, count - len(found)).to_pylist():
            image = Image.open(io.BytesIO(cell["bytes"]))
            image = image if size is None else image.convert("RGB").resize(size[::-1], Image.Resampling.BICUBIC)
            found.append(shaped(image, channels))
    return np.stack(found)


def read_all(marker: Stdm, images: list[Pixels], size: tuple[int, ...]) -> list[Reading]:
    """Read images of one size, by `read_any` where it is not the size they had."""
    if images[0].shape == size:
        return marker.read(np.stack(images))
    return [marker.read_any(image) for image in images]


def measure(name: str, images: Pixels, marker: Stdm) -> None:
    """Print the row of one kind of image."""
    words = [payload(marker.key, f"{name}/{index}") for index in range(len(images))]
    marker.embed(images[:2], words[:2])
    start = time.process_time()
    embedded = marker.embed(images, words)
    embedding = len(images) / (time.process_time() - start)
    start = time.process_time()
    marker.read(embedded.images)
    reading = len(images) / (time.process_time() - start)
    marked = [index for index in range(len(images)) if index not in embedded.unmarkable]
    rates = []
    for attack in ATTACKS.values():
        found = read_all(marker, [attack(embedded.images[index]) for index in marked], images.shape[1:])
        rates.append(sum(reading.payload == words[index] for reading, index in zip(found, marked, strict=True)))
    psnr = embedded.psnr_db[marked]
    alike = np.mean([ssim(images[index], embedded.images[index]) for index in marked[:32]])
    cells = [name, str(len(marked)), str(len(embedded.unmarkable))]
    cells += [f"{psnr.mean():.2f}", f"{psnr.min():.2f}", f"{alike:.4f}"]
    cells += [f"{rate / len(marked):.3f}" for rate in rates] + [f"{embedding:.0f}", f"{reading:.0f}"]
    print("| " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", help="glob of Parquet files with an image column")
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--psnr", type=float, default=42.0)
    parser.add_argument("--sizes", default="28,64,128,256,400")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    marker = Stdm(b"a key for measuring", arguments.psnr)
    print("| images | marked | unmarkable | PSNR | least | SSIM | " + " | ".join(ATTACKS) + " | embed/s | read/s |")
    print("|" + "---|" * (8 + len(ATTACKS)))
    measure("fashion 28 grey", fashion(arguments.count), marker)
    for size in map(int, arguments.sizes.split(",")):
        measure(f"photo {size} RGB", photos(arguments.count, (size, size), 3, arguments.photos), marker)
        if size == 256:
            measure(f"photo {size} grey", photos(arguments.count, (size, size), 1, arguments.photos), marker)


if __name__ == "__main__":
    sys.exit(main())
