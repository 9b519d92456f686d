"""The compaction benchmark runs and writes its figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from programs import output_of_python

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_it_writes_figures_and_a_table(tmp_path: Path) -> None:
    script = ROOT / "benchmarks" / "bench_compaction.py"
    output_of_python(script, "--repeats", "1", "--output", tmp_path)
    figures = json.loads((tmp_path / "compaction.json").read_text())
    assert figures["bytes_after"] * 12 == pytest.approx(figures["bytes_before"] * 4, rel=0.2)
    assert "| parameters, gradients, AdamW state |" in (tmp_path / "compaction.md").read_text()
