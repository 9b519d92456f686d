"""How the benchmarks of the core measure: all contenders of a case in one process, in turn.

Their order changes from round to round. In a fixed order each would find the caches as its
neighbour leaves them: one that follows a contender with large temporaries finds its own tensors
cold, one that follows the same function finds them warm.
"""

from __future__ import annotations

import random
import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

WARM_UP_ROUNDS = 3


@dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
        part: what is measured, the name of the op.
        label: on which shapes.
        contenders: `{name: function}`; "ours" is one of them.
        against: the contender whose time is divided by ours.
        goal: the ratio that is wanted, None where there is none.
        at_most: the goal is an upper bound of ours / against instead.
        minus: names of two contenders whose difference is compared, `{"ours": ("ours", "base")}`.
        rounds: how often each contender runs.
    """

    part: str
    label: str
    contenders: dict[str, Callable[[], object]]
    against: str = "peft"
    goal: float | None = None
    at_most: bool = False
    minus: dict[str, tuple[str, str]] = field(default_factory=dict)
    rounds: int = 50


@dataclass(frozen=True)
class Result:
    """What a case gave: medians in microseconds, and the ratio with its quartiles over rounds."""

    part: str
    label: str
    medians: dict[str, float]
    against: str
    ratio: float
    spread: tuple[float, float]
    goal: float | None
    at_most: bool

    @property
    def reached(self) -> bool | None:
        """Whether the goal was reached; None where there is none."""
        if self.goal is None:
            return None
        return self.ratio <= self.goal if self.at_most else self.ratio >= self.goal


def run(case: Case) -> Result:
    """Run every contender of `case` in turn, round after round."""
    times: dict[str, list[float]] = {name: [] for name in case.contenders}
    shuffle = random.Random(0).shuffle  # noqa: S311 - reproducible, not secret
    order = list(case.contenders.items())
    for each_round in range(-WARM_UP_ROUNDS, case.rounds):
        shuffle(order)
        for name, function in order:
            start = time.perf_counter()
            function()
            if each_round >= 0:
                times[name].append((time.perf_counter() - start) * 1e6)
    for name, (whole, part) in case.minus.items():
        # A difference of medians: single rounds differ by less than their noise.
        base = statistics.median(times[part])
        times[name] = [value - base for value in times[whole]]
    ours, against = times["ours"], times[case.against]
    pairs = zip(ours, against, strict=True)
    ratios = [mine / other if case.at_most else other / mine for mine, other in pairs]
    low, _, high = statistics.quantiles(ratios, n=4)
    medians = {name: statistics.median(values) for name, values in times.items()}
    mine, other = medians["ours"], medians[case.against]
    ratio = mine / other if case.at_most else other / mine
    return Result(
        case.part, case.label, medians, case.against, ratio, (low, high), case.goal, case.at_most
    )
