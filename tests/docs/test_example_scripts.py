"""The scripts under examples/ run as they are and find what they say."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
HAS_TORCH = importlib.util.find_spec("torch") is not None

SAYS = {"custom_loop.py": [r"rank [01] of 4: 0", r"rank [01] of 4: 2", r"rank [23] of 4: 4"]}
"""Patterns that a script must print; a script without an entry fails the test below."""


def test_every_example_script_is_tested():
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(SAYS)


# The examples train; on a machine without torch there is nothing to run.
@pytest.mark.parametrize("name", sorted(SAYS) if HAS_TORCH else [])
def test_example_script_runs_and_prints_what_it_promises(name, tmp_path):
    result = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    for pattern in SAYS[name]:
        assert re.search(f"^{pattern}$", result.stdout, re.MULTILINE), result.stdout
    assert list(tmp_path.iterdir()) == []
