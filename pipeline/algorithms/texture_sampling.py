"""Non-parametric texture sampling: a region is synthesised pixel by pixel (Efros & Leung 1999). NumPy.

Weights and levels are whole numbers, so float64 adds their products without rounding in any order: neither batch nor
threads can change which neighbourhood is nearest.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from pipeline.contracts import Pixels

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Whole = npt.NDArray[np.int64]

WINDOW_SIGMAS = 6.4  # a window's side in deviations of its Gaussian: the pseudocode published with the paper
UNIT_WEIGHT = 4096  # the weight of a window's centre; the others are rounded to whole numbers


@dataclass(frozen=True)
class Sampling:
    """How a pixel is chosen: side of the window in pixels, relative error threshold, most windows compared."""

    window_px: int
    error_threshold: float
    candidates: int


def resynthesise(image: Pixels, known: Flags, generator: np.random.Generator, how: Sampling) -> Pixels:
    """Return `image` [H, W, C] uint8 with every pixel that is not `known` [H, W] synthesised from those that are.

    Pixels next to known ones come first, those with most known pixels in their window before the others, equal ones in
    random order. Each takes the centre of a window drawn evenly from those whose distance is at most
    (1 + error_threshold) times the smallest (section 2.1). No pixel waits for a better match, so the work is bounded:
    unknown pixels x candidates x window.
    """
    samples = _Samples.of(image, known, generator, how)
    height, width = samples.window
    top, left = height // 2, width // 2
    canvas = np.pad(np.where(known[..., None], image, 0).astype(np.float64), ((top, top), (left, left), (0, 0)))
    weights = np.pad(known.astype(np.float64), ((top, top), (left, left)))  # 0: unknown, or beyond the edge
    while True:
        places = _next(weights, (height, width), generator)
        if not len(places):
            break
        for (row, column), chance in zip(places, generator.random(len(places)), strict=True):
            area = (slice(row, row + height), slice(column, column + width))
            found = samples.nearest_windows(canvas[area], weights[area], how.error_threshold)
            canvas[row + top, column + left] = samples.centres[found[int(chance * len(found))]]
            weights[row + top, column + left] = 1
    made: Pixels = canvas[top : top + len(image), left : left + image.shape[1]].astype(np.uint8)
    return made


def window_weights(height: int, width: int) -> Floats:
    """Return the Gaussian [height, width] of a window, whole numbers, 4096 at its centre (section 2.1)."""
    deviation = max(height, width) / WINDOW_SIGMAS
    rows, columns = np.arange(height) - height // 2, np.arange(width) - width // 2
    squares = rows[:, None] ** 2 + columns**2
    weights: Floats = np.rint(UNIT_WEIGHT * np.exp(-squares / (2 * deviation**2)))
    return weights


class _Samples:
    """Wholly known windows of an image, as one matrix."""

    def __init__(self, windows: Pixels) -> None:
        """`windows` is [K, h, w, C] uint8."""
        self.window = windows.shape[1:3]
        height, width = self.window
        self.centres = windows[:, height // 2, width // 2]  # [K, C]
        levels = windows.reshape(len(windows), -1).astype(np.float64)
        self.matrix = np.concatenate([levels**2, levels], axis=1)  # [K, 2 h w C]
        self.gaussian = window_weights(height, width)

    @classmethod
    def of(cls, image: Pixels, known: Flags, generator: np.random.Generator, how: Sampling) -> "_Samples":
        """Cut the windows; where none is wholly known they shrink, down to one pixel; of too many a sample is drawn."""
        height, width = (min(how.window_px, side - (side % 2 == 0)) for side in known.shape)
        while not (whole := sliding_window_view(known, (height, width)).all(axis=(2, 3))).any():
            height, width = max(1, height - 2), max(1, width - 2)
        places = np.argwhere(whole)
        if len(places) > how.candidates:
            places = places[np.sort(generator.choice(len(places), how.candidates, replace=False))]
        views = sliding_window_view(image, (height, width), axis=(0, 1))  # [H', W', C, h, w]
        return cls(views[places[:, 0], places[:, 1]].transpose(0, 2, 3, 1))

    def nearest_windows(self, target: Floats, weights: Floats, threshold: float) -> Whole:
        """Return the windows near enough to `target` [h, w, C], of which `weights` [h, w] says what is known.

        Distance: Gaussian-weighted sum of squared differences over known pixels, sum w s^2 - 2 sum w s t + sum w t^2.
        """
        weighed = np.repeat((self.gaussian * weights).ravel(), target.shape[2])
        levels = target.ravel()
        crossed = weighed * levels
        distances = self.matrix @ np.concatenate([weighed, -2 * crossed]) + crossed @ levels
        return np.flatnonzero(distances <= (1 + threshold) * distances.min())


def _next(weights: Floats, window: tuple[int, int], generator: np.random.Generator) -> Whole:
    """Return the unknown pixels that touch a known one [n, 2], in the order they are made."""
    top, left = window[0] // 2, window[1] // 2
    known = weights[top : weights.shape[0] - top, left : weights.shape[1] - left] > 0
    near = known.copy()
    near[1:] |= known[:-1]
    near[:-1] |= known[1:]
    touching = near.copy()
    touching[:, 1:] |= near[:, :-1]
    touching[:, :-1] |= near[:, 1:]
    places = np.argwhere(touching & ~known)
    counts = sliding_window_view(weights, window)[places[:, 0], places[:, 1]].sum(axis=(1, 2))
    shuffled = generator.permutation(len(places))
    return places[shuffled[np.argsort(-counts[shuffled], kind="stable")]]
