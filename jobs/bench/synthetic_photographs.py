"""Images with the look and the JPEG size of photographs, from a seed: light and shade, a few things, grain."""

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from jobs.bench.contestants.pillow_images import Pixels

Field = npt.NDArray[np.float32]


def photograph(seed: int, size_px: int) -> Pixels:
    """Return [size, size, 3] uint8 RGB, the same for the same seed. At 256 px a JPEG of quality 90 has 12 to 25 kB."""
    random = np.random.default_rng([seed, size_px])
    scene = Image.fromarray(_scene(random, size_px))
    for _ in range(int(random.integers(3, 9))):
        _place_thing(scene, random)
    pixels = np.asarray(scene, dtype=np.float32)
    grain = random.normal(0, random.uniform(3, 7), (size_px, size_px, 1))  # grey: the same in all channels
    return (pixels + grain).clip(0, 255).astype(np.uint8)


def _scene(random: np.random.Generator, size_px: int) -> Pixels:
    """Smooth noise whose contrast falls with frequency as it does in photographs; less of it in the colours."""
    fall = random.uniform(0.8, 1.2)
    light = _smooth_noise(random, size_px, fall, finest=size_px)
    tints = [_smooth_noise(random, size_px, fall, finest=16) for _ in range(3)]
    field = np.stack([light + 0.4 * tint for tint in tints], axis=2)
    return (random.uniform(90, 160) + 55 * field).clip(0, 255).astype(np.uint8)


def _smooth_noise(random: np.random.Generator, size_px: int, fall: float, finest: int) -> Field:
    """Return [size, size] float32 noise of all scales from the whole image down to `finest` cells a side."""
    total = np.zeros((size_px, size_px), dtype=np.float32)
    cells = 2
    while cells <= finest:
        grid = Image.fromarray(random.standard_normal((cells, cells), dtype=np.float32))
        total += np.asarray(grid.resize((size_px, size_px), Image.Resampling.BICUBIC)) * (2 / cells) ** fall
        cells *= 2
    return total


def _place_thing(scene: Image.Image, random: np.random.Generator) -> None:
    """Draw an ellipse or a polygon somewhere, in one colour."""
    size = scene.width
    colour = tuple(int(value) for value in random.integers(20, 236, 3))
    middle, reach = random.uniform(0, size, 2), random.uniform(0.05, 0.3) * size
    draw = ImageDraw.Draw(scene)
    if random.random() < 0.5:
        draw.ellipse([*(middle - reach), *(middle + reach * random.uniform(0.3, 1))], fill=colour)
    else:
        angles = np.sort(random.uniform(0, 2 * np.pi, int(random.integers(3, 8))))
        corners = middle + reach * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        draw.polygon([tuple(corner) for corner in corners.tolist()], fill=colour)
