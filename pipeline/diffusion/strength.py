"""How the strength of an edit becomes a number of steps, and how strength and guidance are drawn. No torch."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")

_ROUNDING = 1e-9  # 0.29 * 100 is 28.999999999999996
GUIDANCE_STEP = 0.5  # a pipeline takes one guidance a call: drawn among few values, rows share calls


def step_count(steps: int, strength: float) -> int:
    """How many of `steps` an edit of this strength runs: int(steps * strength), as SDEdit pipelines count.

    Raises ValueError where that is none; the message names the smallest strength that runs one.
    """
    run = int(steps * strength + _ROUNDING)
    if run < 1:
        raise ValueError(
            f"strength {strength:g} of {steps} steps runs no step; the smallest usable strength is {1 / steps:.6g}"
        )
    return run


def strengths_for(steps: int, run: int) -> tuple[float, ...]:
    """Return strengths to try, of which at least one makes a pipeline run `run` of `steps`; `run / steps` first.

    Some count int(steps * strength), others steps - int(steps - steps * strength), and rounding leaves some quotients
    (15 of 22) one short or one over: a half more serves the first, a half less the second.
    """
    return (1.0,) if run == steps else (run / steps, (run + 0.5) / steps, (run - 0.5) / steps)


def draw_step_count(
    generator: np.random.Generator,
    steps: int,
    strength_range: tuple[float, float],
    strengths: Sequence[tuple[float, float]] | None = None,
) -> int:
    """Draw how many of `steps` are run: each whole number within the range as often, or by weight from a list.

    Args:
        strengths: pairs of a strength and its weight; they count in place of the range.
    """
    if strengths:
        return step_count(steps, weighted_choice(generator, strengths))
    low, high = (step_count(steps, strength) for strength in strength_range)
    return int(generator.integers(low, high + 1))


def draw_guidance(generator: np.random.Generator, guidance_range: tuple[float, float], stepped: bool) -> float:
    """Draw a guidance evenly from a range; `stepped`: from its ends and the halves between. One value draws nothing."""
    low, high = guidance_range
    if low == high:
        return low
    if not stepped:
        return float(generator.uniform(low, high))
    levels = [*np.arange(low, high, GUIDANCE_STEP).tolist(), high]
    return float(levels[int(generator.integers(len(levels)))])


def weighted_choice(generator: np.random.Generator, weighted: Sequence[tuple[T, float]]) -> T:
    """Draw one of several values by weight. A single one draws nothing."""
    if len(weighted) == 1:
        return weighted[0][0]
    ends = np.cumsum([weight for _, weight in weighted])
    return weighted[int(np.searchsorted(ends, generator.random() * ends[-1], side="right"))][0]
