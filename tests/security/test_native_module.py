"""Code that torch calls during a call of the native module cannot make it read freed memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from programs import output_of_python

PROGRAM = Path(__file__).parents[1] / "support" / "freeing_mode.py"


@pytest.mark.slow
def test_memory_that_is_freed_during_the_checks_never_crashes():
    calls = output_of_python("-W", "ignore", PROGRAM, timeout=600)
    assert int(calls) > 0
