"""The progress bar shows the state of the training, on a terminal of 80 columns too."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest

from adalora_core.demo.experiment import ProgressBar
from adalora_core.floor.budget import Phase


def allocator(phase, budget):
    """Return the figures of an allocator of 36 matrices after a step."""
    schedule = SimpleNamespace(at=lambda _: SimpleNamespace(budget=budget))
    return SimpleNamespace(phase=phase, schedule=schedule, budget=198, matrices=range(36))


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()], ids=["terminal", "file"])
def test_progress_bar_fits_80_columns_with_all_figures(monkeypatch, stream):
    monkeypatch.setenv("COLUMNS", "80")
    with ProgressBar(allocator(Phase.BUDGETING, 200), 314, stream) as bar:
        for step in range(314):
            bar.show(step, 0.5)
    last = stream.getvalue().rstrip("\n").split("\r")[-1]
    assert last.startswith("100%|")
    assert last.endswith("314/314, 00:00 left, loss 0.50, budgeting, budget 200, rank 5.5")
    assert len(last) <= 80


def test_progress_bar_into_a_file_writes_few_lines():
    stream = io.StringIO()
    with ProgressBar(allocator(Phase.FINAL, 144), 1000, stream) as bar:
        for step in range(1000):
            bar.show(step, 0.5)
    assert stream.getvalue().count("\r") <= 5
