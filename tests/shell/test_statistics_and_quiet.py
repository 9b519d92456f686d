"""Test `--statistics` and `--quiet` of `adalora check`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adalora_core.config.rules.base import SOUND

BAD = SOUND | {"deltaT": 0, "r": 4}
"""An error, ADA204, and a warning with an unsafe fix, ADA303."""


def _put(name, content):
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(content if isinstance(content, str) else json.dumps(content))


# --- --statistics ---------------------------------------------------------------------------------


def test_statistics_count_rules_and_fixes_the_most_frequent_first(check):
    _put("a.json", BAD)
    _put(
        "b.yaml",
        "".join(f"{k}: {json.dumps(v)}\n" for k, v in (SOUND | {"r": 4, "init_r": "12"}).items()),
    )
    code, out, _ = check("--statistics")
    assert code == 1
    assert out.splitlines() == [
        "2  ADA303  warning  r-ignored",
        "1  ADA102  error    wrong-type [1 with --fix]",
        "1  ADA204  error    delta-t-not-positive",
        "checked 2 configurations: 2 errors, 2 warnings",
        "fixable: 1 with --fix",
    ]
    assert check("--statistics", "-o", "concise")[1] == out
    assert check("--statistics", "--exit-zero")[0] == 0


def test_statistics_for_programs_are_json(check):
    _put("a.json", BAD)
    _, out, _ = check("--statistics", "-o", "json", "--select", "ADA204")
    assert json.loads(out) == [
        {
            "code": "ADA204",
            "name": "delta-t-not-positive",
            "severity": "error",
            "count": 1,
            "fixable": 0,
        }
    ]
    _put("a.json", SOUND)
    assert json.loads(check("--statistics", "-o", "json")[1]) == []


def test_written_reports_hold_the_findings_beside_statistics(check, tmp_path):
    _put("a.json", BAD)
    check("--statistics", "--quiet", "--output-file", f"concise={tmp_path / 'r.txt'}")
    text = (tmp_path / "r.txt").read_text()
    assert "error[ADA204]" in text
    assert "checked 1 configuration" in text


# --- --quiet --------------------------------------------------------------------------------------


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
