"""The table of memory shows what a forward pass keeps today."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["AdaLoRA, ours", "LoRA of rank 12, PEFT's"])
def test_figures_are_those_of_a_forward_pass(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "")  # the import sets it, for processes of its own
    from bench_memory import RESULTS, Training, model_of

    setting = ("bfloat16", 0.1)
    rows = json.loads(RESULTS.read_text())["rows"]
    keys = ("name", "dtype", "dropout")
    (row,) = (each for each in rows if tuple(each[key] for key in keys) == (name, *setting))
    adapted, frozen = (Training(model_of(each, *setting)) for each in (name, "frozen model"))
    assert adapted.saved() - frozen.saved() == pytest.approx(row["saved"], rel=0.01)
