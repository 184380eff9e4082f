"""Procedural textures: seeded style images of several families and of any size, free of rights of others."""

import colorsys
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Field = NDArray[np.float32]  # [S, S]
Picture = NDArray[np.uint8]  # [S, S, 3] RGB
Rng = np.random.Generator


def palette(rng: Rng, count: int) -> NDArray[np.float32]:
    """Colours [count, 3] in [0, 1]: hues around one, two or all directions of the circle, dark to light, shuffled."""
    hues = (rng.random() + rng.choice([0.06, 0.2, 0.5, 1.0]) * rng.random(count)) % 1
    saturations = np.clip(rng.normal(rng.uniform(0.25, 0.95), 0.15, count), 0, 1)
    values = np.clip(np.linspace(rng.uniform(0, 0.4), rng.uniform(0.6, 1), count) + rng.normal(0, 0.08, count), 0, 1)
    colours = [colorsys.hsv_to_rgb(*hsv) for hsv in zip(hues, saturations, values, strict=True)]
    return np.asarray(colours, np.float32)[rng.permutation(count)]


def coloured(field: Field, colours: NDArray[np.float32]) -> Picture:
    """Colour a field in [0, 1]: the colours are spaced evenly over its range and blended between."""
    stops = np.linspace(0, 1, len(colours))
    channels = [np.interp(field, stops, colours[:, c]) for c in range(3)]
    return (np.stack(channels, axis=-1) * 255).round().astype(np.uint8)


def noise(rng: Rng, size: int, cells: int, octaves: int = 1) -> Field:
    """Smooth noise stretched to [0, 1]: `cells` bumps a side, each octave twice as fine and half as strong."""
    total = np.zeros((size, size), np.float32)
    for octave in range(octaves):
        side = min(cells * 2**octave + 3, size)
        grid = Image.fromarray(rng.random((side, side), np.float32))
        total += np.asarray(grid.resize((size, size), Image.Resampling.BICUBIC)) / 2**octave
    return _stretched(total)


def _stretched(field: NDArray[np.floating]) -> Field:
    low, high = float(field.min()), float(field.max())
    return ((field - low) / max(high - low, 1e-6)).astype(np.float32)


def _axes(rng: Rng, size: int, warp: float = 0.0) -> tuple[Field, Field]:
    """Coordinates in [0, 1], turned by a random angle and bent by noise of amplitude `warp`."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    if warp:
        x = x + warp * (noise(rng, size, 3, 2) - 0.5)
        y = y + warp * (noise(rng, size, 3, 2) - 0.5)
    angle = rng.uniform(0, np.pi)
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def _clouds(rng: Rng, size: int) -> Picture:
    return coloured(noise(rng, size, int(rng.integers(2, 12)), 5), palette(rng, int(rng.integers(2, 6))))


def _stripes(rng: Rng, size: int) -> Picture:
    along, _ = _axes(rng, size, rng.choice([0, 0.05, 0.3]))
    phase = along * rng.uniform(4, 24)
    field = phase % 1 if rng.random() < 0.5 else 0.5 + 0.5 * np.sin(2 * np.pi * phase)
    return coloured(field.astype(np.float32), palette(rng, int(rng.integers(2, 7))))


def _cells(rng: Rng, size: int, count: int) -> tuple[NDArray[np.intp], Field]:
    """Nearest of `count` seeds for each pixel [S, S], and the gap to the second nearest (0 on a border)."""
    seeds = rng.random((count, 2), np.float32)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    distance = np.hypot(x[..., None] - seeds[:, 0], y[..., None] - seeds[:, 1])
    nearest = np.partition(distance, 1, axis=-1)
    return distance.argmin(axis=-1), (nearest[..., 1] - nearest[..., 0]).astype(np.float32)


def _mosaic(rng: Rng, size: int) -> Picture:
    count = int(rng.integers(20, 140))
    index, gap = _cells(rng, size, count)
    colours = palette(rng, 8)[rng.integers(0, 7, count)] * rng.uniform(0.8, 1, (count, 1))
    joint = palette(rng, 2)[0] * rng.choice([0.15, 1.0])
    image = np.where((gap < rng.uniform(0.004, 0.02))[..., None], joint, colours[index])
    return (np.clip(image, 0, 1) * 255).round().astype(np.uint8)


def _strokes(rng: Rng, size: int) -> Picture:
    """Short thick lines that follow a smooth direction field, as a loaded brush leaves them."""
    scale = 2
    colours = (palette(rng, 7) * 255).round().astype(int)
    canvas = Image.new("RGB", (size * scale, size * scale), tuple(colours[0].tolist()))
    pen = ImageDraw.Draw(canvas)
    turn = noise(rng, size, 3, 2) * rng.uniform(2, 9)
    tone = noise(rng, size, 4, 2)
    length, thick = rng.uniform(0.06, 0.2) * size * scale, rng.uniform(0.012, 0.05) * size * scale
    for _ in range(int(rng.integers(500, 1100))):
        x, y = rng.integers(0, size, 2)
        angle = turn[y, x] + rng.normal(0, 0.15)
        step = np.array([np.cos(angle), np.sin(angle)]) * length * rng.uniform(0.5, 1)
        colour = colours[int(np.clip(tone[y, x] * 7 + rng.normal(0, 0.7), 0, 6))] + rng.integers(-18, 19, 3)
        start = np.array([x, y]) * scale
        ends = [tuple(start - step / 2), tuple(start + step / 2)]
        pen.line(ends, fill=tuple(np.clip(colour, 0, 255).tolist()), width=max(int(thick), 1))
    return np.asarray(canvas.resize((size, size), Image.Resampling.BOX))


def _dots(rng: Rng, size: int) -> Picture:
    a, b = _axes(rng, size, rng.choice([0, 0.1]))
    pitch = rng.uniform(6, 20)
    row = np.floor(b * pitch)
    radius = np.hypot((a * pitch + 0.5 * (row % 2)) % 1 - 0.5, (b * pitch) % 1 - 0.5)
    limit = rng.uniform(0.2, 0.45) * (0.5 + noise(rng, size, 3)) if rng.random() < 0.5 else rng.uniform(0.2, 0.42)
    field = np.clip((limit - radius) * size / pitch * 0.7 + 0.5, 0, 1)
    return coloured(field.astype(np.float32), palette(rng, int(rng.integers(2, 4))))


def _checks(rng: Rng, size: int) -> Picture:
    a, b = _axes(rng, size, rng.choice([0, 0, 0.15]))
    pitch = rng.uniform(4, 16)
    column, row = np.floor(a * pitch).astype(int), np.floor(b * pitch).astype(int)
    count = int(rng.integers(2, 5))
    field = (column + row * int(rng.integers(1, 3))) % count / max(count - 1, 1)
    return coloured(field.astype(np.float32), palette(rng, count))


def _marble(rng: Rng, size: int) -> Picture:
    along, _ = _axes(rng, size)
    bent = along * rng.uniform(2, 8) + noise(rng, size, 3, 5) * rng.uniform(1.5, 5)
    vein = np.abs(np.sin(np.pi * bent)) ** rng.uniform(0.3, 1.5)
    return coloured(vein.astype(np.float32), palette(rng, int(rng.integers(3, 6))))


def _waves(rng: Rng, size: int) -> Picture:
    """Rows of overlapping fans of concentric rings."""
    a, b = _axes(rng, size, 0.04)
    pitch = rng.uniform(3, 8)
    row = np.floor(b * pitch * 2)
    radius = np.hypot((a * pitch + 0.5 * (row % 2)) % 1 - 0.5, (b * pitch * 2) % 1 * 0.5 + 0.02)
    field = 0.5 + 0.5 * np.cos(radius * 2 * np.pi * rng.uniform(4, 9))
    return coloured(field.astype(np.float32), palette(rng, int(rng.integers(2, 5))))


def _hatching(rng: Rng, size: int) -> Picture:
    """Thin crossed lines, denser where a cloud is dark: pencil and engraving."""
    dark = noise(rng, size, 3, 3)
    field = np.ones((size, size), np.float32)
    for layer in range(int(rng.integers(2, 4))):
        along, _ = _axes(rng, size, 0.02)
        line = np.abs((along * rng.uniform(size / 9, size / 4)) % 1 - 0.5) * 2
        field = np.where((dark > 0.25 * (layer + 1)) & (line < rng.uniform(0.3, 0.6)), field * 0.35, field)
    return coloured(field, palette(rng, 2))


def _splatter(rng: Rng, size: int) -> Picture:
    scale = 2
    colours = (palette(rng, 6) * 255).round().astype(int)
    canvas = Image.new("RGB", (size * scale, size * scale), tuple(colours[0].tolist()))
    pen = ImageDraw.Draw(canvas)
    for _ in range(int(rng.integers(60, 400))):
        x, y = rng.uniform(0, size * scale, 2)
        radius = size * scale * min(0.006 / max(rng.random(), 0.04), 0.12)
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=tuple(colours[rng.integers(1, 6)].tolist()))
    return np.asarray(canvas.resize((size, size), Image.Resampling.BOX))


def _weave(rng: Rng, size: int) -> Picture:
    a, b = _axes(rng, size, rng.choice([0, 0.06]))
    pitch = rng.uniform(6, 18)
    over = (np.floor(a * pitch) + np.floor(b * pitch)) % 2 == 0
    shade = 0.45 + 0.55 * np.sin(np.pi * np.where(over, (b * pitch) % 1, (a * pitch) % 1))
    colours = palette(rng, 2)
    image = np.where(over[..., None], colours[0], colours[1]) * shade[..., None]
    return (np.clip(image, 0, 1) * 255).round().astype(np.uint8)


def _facets(rng: Rng, size: int) -> Picture:
    """Flat triangles and slabs: the sum of a few hard edges, as in cut paper."""
    field = np.zeros((size, size), np.float32)
    for _ in range(int(rng.integers(4, 14))):
        along, _ = _axes(rng, size)
        field += rng.normal() * (along > rng.uniform(along.min(), along.max()))
    return coloured(_stretched(field), palette(rng, int(rng.integers(4, 9))))


FAMILIES: dict[str, Callable[[Rng, int], Picture]] = {
    "clouds": _clouds,
    "stripes": _stripes,
    "mosaic": _mosaic,
    "strokes": _strokes,
    "dots": _dots,
    "checks": _checks,
    "marble": _marble,
    "waves": _waves,
    "hatching": _hatching,
    "splatter": _splatter,
    "weave": _weave,
    "facets": _facets,
}


def draw(family: str, seed: int, size: int) -> Picture:
    """One texture [size, size, 3] uint8 RGB, a pure function of its arguments. KeyError for an unknown family."""
    return FAMILIES[family](np.random.default_rng(seed), size)
