"""Test `--show-files`, `--show-settings`, `--statistics` and `--quiet` of `adalora check`."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from adalora_core.contract.rules.base import SOUND

BAD = SOUND | {"deltaT": 0, "r": 4}
"""An error, ADA204, and a warning with an unsafe fix, ADA303."""


def _put(name, content):
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(content if isinstance(content, str) else json.dumps(content))


# --- --show-files ---------------------------------------------------------------------------------


def test_files_shown_are_those_that_a_check_reads(check):
    for name in ("a.json", "sub/b.yaml", "sub/c.txt", "scratch/d.json", ".hidden/e.json"):
        _put(name, "not even parsed")
    Path(".adalora-0123456789abcdef-0.tmp").write_text(json.dumps(BAD))
    _put("pyproject.toml", "[tool.adalora]\nexclude = ['scratch/*']\n")
    left_out = "left out 1 folder hidden by a dot\n"
    assert check("--show-files") == (0, "a.json\npyproject.toml\nsub/b.yaml\n", left_out)
    assert check("--show-files", "sub", "--exclude", "*.json") == (0, "sub/b.yaml\n", "")
    assert check("--show-files", "-", "a.json") == (0, "-\na.json\n", "")


def test_files_left_out_are_counted_beside_the_list(check):
    _put("a.json", SOUND)
    _put("node_modules/b.json", SOUND)
    line = "left out 1 folder of installed packages\n"
    assert check("--show-files") == (0, "a.json\n", line)
    assert check("--show-files", "--quiet") == (0, "a.json\n", "")
    assert check("--show-files", "--all-files") == (0, "a.json\nnode_modules/b.json\n", "")


def test_file_that_cannot_be_read_is_reported_and_the_others_are_listed(check):
    _put("a.json", SOUND)
    code, out, err = check("--show-files", "a.json", "none.json")
    assert (code, out) == (2, "a.json\n")
    assert err == "adalora check: none.json: No such file or directory\n"


def test_no_file_to_show_exits_2_unless_that_is_accepted(check):
    code, out, err = check("--show-files")
    assert (code, out) == (2, "")
    assert err.startswith("adalora check: no file matched")
    assert check("--show-files", "--allow-empty") == (0, "", "")


# --- --show-settings ------------------------------------------------------------------------------


def _settings(check, *arguments):
    code, out, err = check("--show-settings", *arguments)
    assert (code, err) == (0, "")
    places = {
        line.split(" = ")[0]: line.rpartition("# ")[2] for line in out.splitlines() if " = " in line
    }
    return tomllib.loads(out)["tool"]["adalora"], places


def test_settings_shown_are_a_table_to_paste_with_the_place_of_each(check):
    _put("pyproject.toml", '[tool.adalora]\nfail-level = "warning"\nignore = ["ADA414"]\n')
    values, places = _settings(check, "--ignore", "ADA207,r-ignored", "--strict-keys")
    assert (values["fail-level"], places["fail-level"]) == ("warning", "pyproject.toml")
    assert (values["ignore"], places["ignore"]) == (["ADA207", "r-ignored"], "command line")
    assert (values["strict-keys"], places["strict-keys"]) == (True, "command line")
    assert (values["runtime"], places["runtime"]) == ("peft", "default")
    _put("pyproject.toml", check("--show-settings")[1])
    assert _settings(check)[0]["fail-level"] == "warning"


def test_settings_of_both_places_are_shown_together(check):
    _put(
        "pyproject.toml",
        '[tool.adalora]\nexclude = ["a"]\n[tool.adalora.per-file-ignores]\n"x/*" = ["ADA2"]\n',
    )
    values, places = _settings(
        check, "--exclude", "b:c", "--per-file-ignores", "y:ADA301,ADA303", "--limit", "depth=9"
    )
    assert values["exclude"] == ["a", "b:c"]
    assert values["per-file-ignores"] == {"x/*": ["ADA2"], "y": ["ADA301", "ADA303"]}
    assert places["exclude"] == places["per-file-ignores"] == "pyproject.toml and command line"
    assert (values["limit"], places["limit"]) == (["depth=9"], "command line")


def test_file_of_the_settings_is_named(check, monkeypatch):
    assert "# settings file: none\n" in check("--show-settings")[1]
    _put("pyproject.toml", "[tool.adalora]\nexit-zero = true\n")
    Path("sub").mkdir()
    monkeypatch.chdir("sub")
    file = Path.cwd().parent / "pyproject.toml"
    assert f"# settings file: {file}\n" in check("--show-settings")[1]
    assert "# settings file: none\n" in check("--show-settings", "--isolated")[1]
    _put("other.toml", "[tool.adalora]\nexit-zero = true\n")
    assert (
        "# settings file: other.toml\n" in check("--show-settings", "--settings", "other.toml")[1]
    )


def test_wrong_settings_exit_2_here_too(check):
    _put("pyproject.toml", "[tool.adalora]\nfail-level = 3\n")
    code, out, err = check("--show-settings")
    assert (code, out) == (2, "")
    assert "fail-level: expected one of" in err


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
