"""Colour transfer by three published maps of colour space: Reinhard, CORAL, Monge-Kantorovich. NumPy, float64.

Levels are 0..255. Sums over pixels are of whole numbers, which float64 adds without rounding, or run over one image in
one order: neither batch nor threads can change a byte.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from pipeline.contracts import Pixels

Floats = npt.NDArray[np.float64]
Method = Literal["reinhard", "coral", "optimal_transport"]

LUMA = np.array((0.299, 0.587, 0.114))  # ITU-R BT.601
LMS = np.array(((0.3811, 0.5783, 0.0402), (0.1967, 0.7244, 0.0782), (0.0241, 0.1288, 0.8444)))
"""Reinhard et al. 2001, equation 4: cone responses of RGB."""
OPPONENT = np.diag(1 / np.sqrt((3.0, 6.0, 2.0))) @ np.array(((1.0, 1.0, 1.0), (1.0, 1.0, -2.0), (1.0, -1.0, 0.0)))
"""Reinhard et al. 2001, equation 6: l, alpha, beta of the logarithms of the cone responses."""
DARKEST = 1.0  # level that cone responses are lifted to: black has no logarithm
FLAT = 1e-6  # a deviation below this is rounding: one pixel of 10^8 that is one level off makes 1e-4
RIDGE = 1e-6  # added to the correlations: a colour direction without variance has no inverse
MAX_COUNTED = 1 << 22  # pixels of an image its statistics are taken from; of a larger one every k-th row and column


@dataclass(frozen=True)
class ColourStatistics:
    """Mean [3] and covariance [3, 3] of RGB levels; mean [3] and deviation [3] in l-alpha-beta."""

    mean: Floats
    covariance: Floats
    opponent_mean: Floats
    opponent_deviation: Floats

    @property
    def luma(self) -> tuple[float, float]:
        """Mean and deviation of BT.601 luma, in levels."""
        return float(LUMA @ self.mean), float(np.sqrt(LUMA @ self.covariance @ LUMA))


def statistics(pixels: Pixels) -> ColourStatistics:
    """Return the colour statistics of a reference [h, w, 1 or 3] uint8; grey counts as RGB of three equal channels."""
    height, width = pixels.shape[:2]
    step = int(np.ceil(np.sqrt(max(1.0, height * width / MAX_COUNTED))))
    rgb = np.broadcast_to(pixels[::step, ::step], (*pixels[::step, ::step].shape[:2], 3))
    mean, covariance = moments(rgb)
    opponent = to_opponent(_planes(rgb))
    return ColourStatistics(mean, covariance, opponent.mean(axis=1), opponent.std(axis=1))


def transfer_colours(pixels: Pixels, target: ColourStatistics, method: Method, max_gain: float) -> Floats:
    """Return the levels [h, w, C] float64, not yet clipped, of `pixels` [h, w, C] with the target's colours.

    Grey (C = 1) has one statistic that can be matched, whatever the method: mean and deviation of luma.
    """
    levels = _planes(pixels)
    if pixels.shape[2] == 1:
        mean, variance = moments(pixels)
        wanted, deviation = target.luma
        moved = wanted + _gains(np.sqrt(variance[0]), np.array([deviation]), max_gain) * (levels - mean)
    elif method == "reinhard":
        moved = reinhard(levels, target.opponent_mean, target.opponent_deviation, max_gain)
    else:
        mean, covariance = moments(pixels)
        build = coral if method == "coral" else monge_kantorovich
        matrix = limit_gain(build(covariance, target.covariance), max_gain)
        moved = _mapped(levels, matrix) + (target.mean - matrix @ mean)[:, None]
    whole: Floats = moved.T.reshape(pixels.shape)
    return whole


def moments(pixels: Pixels) -> tuple[Floats, Floats]:
    """Return mean [C] and covariance [C, C] (divided by the number of pixels) of [h, w, C] uint8, without rounding.

    (n sum xy - sum x sum y) / n^2 in whole numbers: a constant image has a variance of exactly 0.
    """
    planes = _planes(pixels)
    count = planes.shape[1]
    sums = planes.sum(axis=1).astype(np.int64).astype(object)
    products = (planes @ planes.T).astype(np.int64).astype(object)
    covariance = (count * products - np.outer(sums, sums)) / count**2
    return (sums / count).astype(np.float64), covariance.astype(np.float64)


def to_opponent(rgb: Floats) -> Floats:
    """RGB levels [3, n] -> l-alpha-beta [3, n]: Reinhard et al. 2001, equations 4 to 6, by natural logarithms.

    The paper takes them to base 10, which scales all three axes alike and cancels in the transfer.
    """
    return _mapped(np.log(np.maximum(_mapped(rgb, LMS), DARKEST)), OPPONENT)


def from_opponent(opponent: Floats) -> Floats:
    """l-alpha-beta [3, n] -> RGB levels [3, n], by the exact inverses of both matrices."""
    return _mapped(np.exp(_mapped(opponent, np.linalg.inv(OPPONENT))), np.linalg.inv(LMS))


def reinhard(rgb: Floats, mean: Floats, deviation: Floats, max_gain: float = np.inf) -> Floats:
    """Mean and deviation of each l-alpha-beta axis become those given: Reinhard et al. 2001, equations 10 and 11.

    `rgb` is [3, n] levels; an axis without deviation keeps none.
    """
    opponent = to_opponent(rgb)
    gains = _gains(opponent.std(axis=1), deviation, max_gain)
    moved: Floats = (opponent - opponent.mean(axis=1, keepdims=True)) * gains[:, None] + mean[:, None]
    return from_opponent(moved)


def coral(source: Floats, target: Floats) -> Floats:
    """Return A [3, 3], A source A^T = target: whiten, then recolour (Sun et al. 2016, algorithm 1) after each channel
    is divided by its deviation, as colour-preserving AdaIN does.

    A = D_t R_t^(1/2) R_s^(-1/2) D_s^(-1), R the correlations plus a ridge, D the deviations.
    """
    (source_deviation, whitened), (target_deviation, coloured) = _standardised(source), _standardised(target)
    inverse = np.divide(1, source_deviation, out=np.zeros(3), where=source_deviation > FLAT)
    matrix: Floats = target_deviation[:, None] * (_power(coloured, 0.5) @ _power(whitened, -0.5)) * inverse
    return matrix


def monge_kantorovich(source: Floats, target: Floats) -> Floats:
    """Return the symmetric T [3, 3], T source T = target, that moves colours the least (Pitie & Kokaram 2007, 3.3).

    T = S^(-1/2) (S^(1/2) target S^(1/2))^(1/2) S^(-1/2), S the source's covariance; its null space maps to 0.
    """
    root, inverse = _power(source, 0.5), _power(source, -0.5)
    matrix: Floats = inverse @ _power(root @ target @ root, 0.5) @ inverse
    return matrix


def coral_map(source: tuple[Floats, Floats], target: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
    """Return matrix [3, 3] and shift [3] that give colours of the source's (mean, covariance) those of the target."""
    matrix = coral(source[1], target[1])
    return matrix, target[0] - matrix @ source[0]


def limit_gain(matrix: Floats, max_gain: float) -> Floats:
    """Return `matrix` [3, 3] with no direction stretched more than `max_gain` times: singular values are clipped."""
    left, gains, right = np.linalg.svd(matrix)
    if gains[0] <= max_gain:
        return matrix
    cut: Floats = (left * np.minimum(gains, max_gain)) @ right
    return cut


def _gains(source: Floats, target: Floats, max_gain: float) -> Floats:
    """target / source, at most `max_gain`, 0 where the source has no deviation."""
    gains = np.divide(target, source, out=np.zeros_like(source), where=source > FLAT)
    return np.minimum(gains, max_gain)


def _planes(pixels: Pixels) -> Floats:
    """[h, w, C] uint8 -> [C, h w] float64, contiguous."""
    return np.array(pixels.reshape(-1, pixels.shape[2]).T, dtype=np.float64, order="C")


def _mapped(planes: Floats, matrix: Floats) -> Floats:
    """Return matrix @ [3, n], written out: a BLAS may add in another order for another number of threads."""
    made = np.empty_like(planes)
    for result, row in zip(made, matrix, strict=True):
        np.multiply(planes[0], row[0], out=result)
        result += row[1] * planes[1]
        result += row[2] * planes[2]
    return made


def _standardised(covariance: Floats) -> tuple[Floats, Floats]:
    """Return the deviations [3] and the correlations [3, 3] plus the ridge; those of a flat channel are 0."""
    deviation = np.sqrt(np.diag(covariance))
    scale = np.divide(1, deviation, out=np.zeros(3), where=deviation > FLAT)
    return deviation, covariance * np.outer(scale, scale) + RIDGE * np.eye(3)


def _power(symmetric: Floats, exponent: float) -> Floats:
    """Return a power of a symmetric matrix without negative eigenvalues; eigenvalues that are rounding stay 0."""
    values, vectors = np.linalg.eigh((symmetric + symmetric.T) / 2)
    kept = values > max(1e-12 * values[-1], FLAT**2)
    powers = np.power(values, exponent, out=np.zeros_like(values), where=kept)
    result: Floats = (vectors * powers) @ vectors.T
    return result
