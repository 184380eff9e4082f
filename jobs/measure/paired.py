"""Paired comparison of ways to train: choose on validation figures, then compare on test figures, seed by seed."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from jobs.measure.corruptions import CORRUPTIONS, FAMILIES

CLEAN = "clean"
CONFIDENCE = 0.95
GRID = 200_001  # points of the integral below: the quantile is right to seven digits


@dataclass(frozen=True)
class Record:
    """One classifier: how it was trained, with which seed, and its accuracies in per cent by test set.

    A test set is `clean`, or `corruption/severity`. `test` is empty where the test images were not looked at.
    """

    arm: str
    seed: int
    validation: Mapping[str, float]
    test: Mapping[str, float]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Interval:
    """A mean with the ends of its 95 % interval."""

    mean: float
    low: float
    high: float

    def as_json(self) -> dict[str, float]:
        return {name: round(value, 3) for name, value in asdict(self).items()}


def by_family(accuracies: Mapping[str, float]) -> dict[str, float]:
    """Mean accuracy of each family of corruptions: over severities first, then over the family's corruptions."""
    each: dict[str, list[float]] = {family: [] for family in FAMILIES}
    for name, (family, _, _) in CORRUPTIONS.items():
        found = [value for key, value in accuracies.items() if key.startswith(f"{name}/")]
        if found:
            each[family].append(statistics.mean(found))
    return {family: statistics.mean(values) for family, values in each.items() if values}


def corrupted_mean(accuracies: Mapping[str, float]) -> float:
    """Mean accuracy over the families, each with equal weight: three kinds of noise do not count three times."""
    return statistics.mean(by_family(accuracies).values())


def chosen(records: Sequence[Record], arms: Sequence[str]) -> str:
    """The arm with the highest mean accuracy on corrupted *validation* images; the first of equals."""

    def standing(arm: str) -> float:
        return statistics.mean(corrupted_mean(record.validation) for record in records if record.arm == arm)

    return max(arms, key=standing)


def differences(records: Sequence[Record], arm: str, control: str, figure: str) -> list[float]:
    """Test figure of `arm` less that of `control`, seed by seed; figure: `clean`, `corrupted` or a family.

    Raises:
        ValueError: the two were not trained with the same seeds.
    """
    mine, theirs = ({r.seed: r for r in records if r.arm == name} for name in (arm, control))
    if set(mine) != set(theirs):
        raise ValueError(f"{arm} has seeds {sorted(mine)}, {control} {sorted(theirs)}: they cannot be paired")
    return [figure_of(mine[seed].test, figure) - figure_of(theirs[seed].test, figure) for seed in sorted(mine)]


def figure_of(accuracies: Mapping[str, float], figure: str) -> float:
    """One figure of a classifier: `clean`, `corrupted` (mean over families) or a family."""
    if figure == CLEAN:
        return accuracies[CLEAN]
    return corrupted_mean(accuracies) if figure == "corrupted" else by_family(accuracies)[figure]


def interval(values: Sequence[float]) -> Interval:
    """Mean of independent values with its 95 % interval by Student's t; a single value has an infinite one."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return Interval(mean, float("-inf"), float("inf"))
    half = student_quantile(len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return Interval(mean, mean - half, mean + half)


def student_quantile(freedom: int) -> float:
    """The t that a value of Student's distribution stays within, on both sides, in 95 % of all cases.

    With t = sqrt(n) tan(a) the density of the angle a goes with cos(a)^(n - 1), which is integrated numerically.
    """
    angles = np.linspace(0, np.pi / 2, GRID)
    density = np.cos(angles) ** (freedom - 1)
    mass = np.concatenate([[0], np.cumsum(density[1:] + density[:-1])])
    return float(freedom**0.5 * np.tan(np.interp(CONFIDENCE, mass / mass[-1], angles)))
