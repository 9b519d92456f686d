"""Test `docs/contract.md`: run its sessions, compare its tables with the code."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from pages import FENCED, run_sessions

from adalora_core.cli import main
from adalora_core.contract.reports import FORMATS
from adalora_core.contract.text.limits import DEFAULT_LIMITS

PATH = Path(__file__).parents[2] / "docs" / "contract.md"
PAGE = PATH.read_text("utf-8")


def test_sessions_shown_are_what_the_command_prints(capsys):
    assert run_sessions(PATH, capsys) >= 4


def test_settings_shown_are_accepted(write):
    example = next(t for language, t in FENCED.findall(PAGE) if language == "toml")
    Path("pyproject.toml").write_text(example, encoding="utf-8")
    assert main(["check", str(write("peft_type: ADALORA\n", "a.yaml")), "--exit-zero"]) == 0


def test_limits_shown_are_those_of_the_code():
    shown = {
        name: int(number)
        for name, number in re.findall(r"^\| `([a-z-]+)` \| (\d+) \|", PAGE, re.MULTILINE)
    }
    assert shown == {
        name.replace("_", "-"): value for name, value in dataclasses.asdict(DEFAULT_LIMITS).items()
    }


def test_formats_and_options_named_exist(check):
    assert all(f"`{name}`" in PAGE or f"--output-format {name}" in PAGE for name in FORMATS)
    _, help_text, _ = check("--help")
    for option in set(re.findall(r"--[a-z][a-z-]+", PAGE)) - {"--matrices", "--check", "--flavour"}:
        assert option in help_text, option
