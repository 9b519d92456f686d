"""Compare two arms by the differences of their paired runs."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """The mean of paired differences, its confidence interval, and the p-value of no difference."""

    mean: float
    low: float
    high: float
    p: float


def paired(differences: Sequence[float]) -> Interval:
    """Return the interval of Student's t for the mean of paired differences.

    Example:
        >>> found = paired([1.0, 2.0, 3.0])
        >>> round(found.mean, 3), round(found.low, 3), round(found.high, 3), round(found.p, 4)
        (2.0, -0.484, 4.484, 0.0742)

    Raises:
        ValueError: there are fewer than two differences.
    """
    if len(differences) < 2:
        raise ValueError(f"expected at least two differences, got {len(differences)}")
    mean = statistics.fmean(differences)
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    if error == 0:
        return Interval(mean, mean, mean, 1.0 if mean == 0 else 0.0)
    freedom = len(differences) - 1
    half = error * quantile(CONFIDENCE, freedom)
    return Interval(mean, mean - half, mean + half, 1 - within(abs(mean) / error, freedom))


def within(t: float, freedom: int) -> float:
    """Return the probability that Student's t is between -`t` and `t`.

    The finite sums of Abramowitz and Stegun, 26.7.3 and 26.7.4.
    """
    angle = math.atan(t / math.sqrt(freedom))
    term = math.cos(angle) if freedom % 2 else 1.0
    total = term if freedom > 1 else 0.0
    for power in range(2 + freedom % 2, freedom - 1, 2):
        term *= math.cos(angle) ** 2 * (power - 1) / power
        total += term
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if freedom % 2 else total


def quantile(probability: float, freedom: int) -> float:
    """Return the `t` whose `within` is `probability`."""
    low, high = 0.0, 1e4
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if within(middle, freedom) < probability else (low, middle)
    return low


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted by Holm's method for being several.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = highest
    return adjusted
