"""The page that compares PEFT with this package is what running both gives."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_committed_page_is_what_running_both_gives() -> None:
    pytest.importorskip("peft", reason="would have compared docs/peft-comparison.md")
    result = subprocess.run(
        [sys.executable, ROOT / "tools" / "regenerate.py", "--check", "comparison"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
