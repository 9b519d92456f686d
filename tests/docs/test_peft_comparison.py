"""The page that compares PEFT with ours is what running both says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_committed_page_is_what_running_both_says() -> None:
    pytest.importorskip("peft", reason="would have compared docs/peft-comparison.md")
    result = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "feature_comparison.py", "--check"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
