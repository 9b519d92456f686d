"""Test `--quiet` of `adalora check`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adalora_core.config.rules.base import SOUND


def _put(name, content):
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(content if isinstance(content, str) else json.dumps(content))


@pytest.mark.parametrize("option", ["-q", "--quiet"])
def test_quiet_check_of_a_sound_file_prints_nothing(check, option):
    _put("a.json", SOUND)
    _put("pyproject.toml", '[tool.adalora]\nfail-level = "warning"\n')
    assert check("a.json", option) == (0, "", "")


def test_quiet_check_prints_findings_and_errors_only(check):
    _put("a.json", SOUND | {"deltaT": 0})
    code, out, err = check("a.json", "none.json", "-q", "-o", "concise")
    assert (code, err) == (2, "adalora check: none.json: No such file or directory\n")
    assert out == "a.json:1:" + out.removeprefix("a.json:1:")
    assert out.count("\n") == 1


def test_quiet_fix_and_diff_print_no_counts(check):
    _put("a.json", SOUND | {"peft_type": "adalora"})
    code, out, err = check("a.json", "-q", "--diff")
    assert (code, err) == (1, "")
    assert out.startswith("--- a.json\n")
    assert check("a.json", "-q", "--fix") == (0, "", "")
