"""Measure all contenders of a case in one process, in turn.

Their order changes from round to round. In a fixed order each contender would find the caches as
its neighbour leaves them: cold after one with large temporaries, warm after the same function.

Contenders are compared within each round. On a machine that others slow down for minutes at a
time, the medians of two contenders can come from different states of the machine.
"""

from __future__ import annotations

import random
import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
        part: the op that is measured.
        label: the shapes.
        contenders: `{name: function}`; "ours" is one of the names.
        against: the contender whose time is divided by ours.
        goal: the wanted ratio, or None.
        at_most: whether the goal is an upper bound of ours / against instead.
        minus: for a name, two contenders whose difference is compared:
            `{"ours": ("ours", "base")}`.
        rounds: how often each contender runs.
        warm_up: rounds before these, which do not count.
    """

    part: str
    label: str
    contenders: dict[str, Callable[[], object]]
    against: str = "peft"
    goal: float | None = None
    at_most: bool = False
    minus: dict[str, tuple[str, str]] = field(default_factory=dict)
    rounds: int = 50
    warm_up: int = 3


@dataclass(frozen=True)
class Result:
    """The outcome of a case: median times in microseconds, median and quartiles of the ratios."""

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
        """Whether the goal was reached; None without a goal."""
        if self.goal is None:
            return None
        return self.ratio <= self.goal if self.at_most else self.ratio >= self.goal

    def cells(self) -> dict[str, str]:
        """Return the result as the cells of a table, by the name of the column."""
        low, high = self.spread
        bound = "<=" if self.at_most else ">="
        return {
            "part": self.part,
            "shapes": self.label,
            "ratio of": f"ours / {self.against}" if self.at_most else f"{self.against} / ours",
            "ratio": f"{self.ratio:.2f} ({low:.2f} to {high:.2f})",
            "goal": "" if self.goal is None else f"{bound} {self.goal:g}",
            "verdict": {None: "", True: "reached", False: "missed"}[self.reached],
            "medians": ", ".join(f"{name} {_time(value)}" for name, value in self.medians.items()),
        }


def run(case: Case) -> Result:
    """Run every contender of `case` in turn, round after round."""
    times: dict[str, list[float]] = {name: [] for name in case.contenders}
    shuffle = random.Random(0).shuffle  # noqa: S311 - reproducible, not secret
    order = list(case.contenders.items())
    for each_round in range(-case.warm_up, case.rounds):
        shuffle(order)
        for name, function in order:
            start = time.perf_counter()
            function()
            if each_round >= 0:
                times[name].append((time.perf_counter() - start) * 1e6)
    for name, (whole, part) in case.minus.items():
        times[name] = [a - b for a, b in zip(times[whole], times[part], strict=True)]
    ours, against = times["ours"], times[case.against]
    pairs = zip(ours, against, strict=True)
    ratios = [mine / other if case.at_most else other / mine for mine, other in pairs]
    low, ratio, high = statistics.quantiles(ratios, n=4)
    medians = {name: statistics.median(values) for name, values in times.items()}
    return Result(
        case.part, case.label, medians, case.against, ratio, (low, high), case.goal, case.at_most
    )


def _time(microseconds: float) -> str:
    return f"{microseconds:.0f} µs" if microseconds < 1e3 else f"{microseconds / 1e3:.2f} ms"


def write(path: Path, text: str) -> None:
    """Write `text` under a temporary name and rename the file."""
    temporary = path.with_name(f"{path.name}.partial")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
