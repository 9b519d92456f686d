"""Test `docs/plan.md`: run its sessions with a model that has headers only."""

from __future__ import annotations

from pathlib import Path

from header_files import llama_of_a_billion, write_model
from pages import run_sessions

PAGE = Path(__file__).parents[2] / "docs" / "plan.md"


def test_sessions_shown_are_what_the_command_prints(capsys):
    write_model(Path("model") / "model.safetensors", llama_of_a_billion())
    assert run_sessions(PAGE, capsys) == 2
