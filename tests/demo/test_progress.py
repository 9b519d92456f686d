"""The progress bar shows the state of the training, on a terminal of 80 columns too."""

from __future__ import annotations

import io

import pytest

from adalora_core.demo.experiment import ProgressBar, StepReport
from adalora_core.floor.budget import Phase


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()], ids=["terminal", "file"])
def test_progress_bar_fits_80_columns_with_all_figures(monkeypatch, stream):
    monkeypatch.setenv("COLUMNS", "80")
    with ProgressBar(314, stream) as bar:
        for _ in range(314):
            bar.show(StepReport(loss=0.5, phase=Phase.BUDGETING, budget=200, mean_rank=5.5))
    last = stream.getvalue().rstrip("\n").split("\r")[-1]
    assert last.startswith("100%|")
    assert last.endswith("314/314, 00:00 left, loss 0.50, budgeting, budget 200, rank 5.5")
    assert len(last) <= 80


def test_progress_bar_into_a_file_writes_few_lines():
    stream = io.StringIO()
    with ProgressBar(1000, stream) as bar:
        for _ in range(1000):
            bar.show(StepReport(loss=0.5, phase=Phase.FINAL, budget=144, mean_rank=4.0))
    assert stream.getvalue().count("\r") <= 5
