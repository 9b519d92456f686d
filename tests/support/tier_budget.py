"""Hold the fast tier to a budget: of processor time and of started processes, not of the clock.

A newcomer runs the fast tier first. Each change adds a little to it, and nobody notices.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from pace import processor_time, slowness

MOST_SECONDS = 400
"""Processor time of the tier without ranks of process groups, in seconds of an idle machine.

Twice what it takes: beside another run of tests the same work took 1.45 times as long, which the
correction for a busy machine does not see, since programs also share memory.
"""
MOST_PROCESSES = 450
"""Processes that the tests start: a program, or a rank of a process group."""
STARTS = {"subprocess.Popen", "tests.rank"}
PROPERTY = "work"
TESTS_BETWEEN = 200
"""Tests between two looks at how busy the machine is."""
SHOWN = 10


@dataclass(eq=False)
class Budget:
    """Measures each test where it runs, and adds up where the summary is printed.

    Args:
        is_checked: whether the tests are those of the fast tier.
    """

    is_checked: bool
    spent: dict[str, tuple[float, int]] = field(default_factory=dict)
    _started: int = 0
    _slowness: float = 1.0
    _number: int = 0

    def watch(self) -> None:
        """Count the processes that this one starts, for as long as it lives."""

        def count(event: str, _arguments: object) -> None:
            self._started += event in STARTS

        sys.addaudithook(count)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Keep what was spent before a test."""
        if self._number % TESTS_BETWEEN == 0:
            self._slowness = slowness()
        self._number += 1
        item.stash[_BEFORE] = processor_time(), self._started
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Iterator[pytest.TestReport]:
        """Add what a test has spent to its last report."""
        report = yield
        if call.when == "teardown":
            seconds, started = item.stash[_BEFORE]
            used = (processor_time() - seconds) / self._slowness
            report.user_properties.append((PROPERTY, (round(used, 3), self._started - started)))
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add up; tests on a GPU are not part of what a newcomer runs."""
        work = dict(report.user_properties).get(PROPERTY)
        if work is not None and report.when == "teardown" and "gpu" not in report.keywords:
            self.spent[report.nodeid] = work

    def excess(self) -> list[str]:
        """Return the lines about a budget that is exceeded, and what to do."""
        seconds = sum(each for each, _ in self.spent.values())
        started = sum(each for _, each in self.spent.values())
        if not self.is_checked or (seconds <= MOST_SECONDS and started <= MOST_PROCESSES):
            return []
        # Seconds, or processes where these alone are too many.
        first = 0 if seconds > MOST_SECONDS else 1
        most = sorted(self.spent.items(), key=lambda item: item[1][first], reverse=True)[:SHOWN]
        return [
            f"{seconds:.0f} s of processor time, at most {MOST_SECONDS}",
            f"{started} started processes, at most {MOST_PROCESSES}",
            "make tests cheaper, or mark as slow what takes over 2 s; the costliest are:",
            *(f"{used:6.1f} s, {count:3} processes: {test}" for test, (used, count) in most),
        ]

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail a run beyond the budget."""
        if self.excess() and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print what exceeds the budget."""
        if lines := self.excess():
            terminalreporter.section("the fast tier is beyond its budget", red=True)
            terminalreporter.write("\n".join([*lines, ""]))


_BEFORE = pytest.StashKey[tuple[float, int]]()
