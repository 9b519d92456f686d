"""The page that compares PEFT with this package is what running both gives."""

from __future__ import annotations

from pathlib import Path

import pytest
from programs import output_of_python

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_committed_page_is_what_running_both_gives() -> None:
    pytest.importorskip("peft", reason="would have compared docs/peft-comparison.md")
    output_of_python(ROOT / "tools" / "regenerate.py", "--check", "comparison")
