"""Contenders of a benchmark are compared within each round."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


class Clock:
    """Time passes only while contenders run, as long as they say."""

    def __init__(self) -> None:
        self.now = 0.0

    def contender(self, *seconds: float) -> Any:
        left = iter(seconds)

        def call() -> None:
            self.now += next(left)

        return call


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def measure(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCHMARKS)
    module = importlib.import_module("measure")
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock.now)
    return module


# Each contender is disturbed in a round of its own, and the machine is slow in the last two.
FLOOR = (1, 1, 1, 4, 3)
OURS = (2, 2, 8, 6, 6)
PEFT = (3, 5, 3, 9, 9)


def test_the_ratio_is_the_median_of_those_of_the_rounds(measure: Any, clock: Clock) -> None:
    contenders = {"ours": clock.contender(*OURS), "peft": clock.contender(*PEFT)}
    result = measure.run(measure.Case("", "", contenders, rounds=5, warm_up=0))
    assert result.ratio == 1.5  # that of the medians is 5 / 6
    low, high = result.spread
    assert low <= result.ratio <= high


def test_differences_are_those_of_a_round(measure: Any, clock: Clock) -> None:
    contenders = {
        "floor": clock.contender(*FLOOR),
        "step of ours": clock.contender(*OURS),
        "step of peft": clock.contender(*PEFT),
    }
    minus = {name: (f"step of {name}", "floor") for name in ("ours", "peft")}
    case = measure.Case("", "", contenders, at_most=True, minus=minus, rounds=5, warm_up=0)
    result = measure.run(case)
    assert result.ratio == 0.5  # of 1/2, 1/4, 7/2, 2/5 and 3/6
    assert result.medians["ours"] == pytest.approx(2e6)
