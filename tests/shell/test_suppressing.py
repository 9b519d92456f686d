"""Test `--per-file-ignores`, suppressing comments, and what cannot be ignored."""

from __future__ import annotations

import json

import pytest

from adalora_core.config.rules.base import SOUND

FEW = SOUND | {"deltaT": 100}
"""One warning, ADA207."""

COMMENTED = "".join(f"{k}: {json.dumps(v)}\n" for k, v in FEW.items()).replace(
    "deltaT: 100", "deltaT: 100  # adalora: ignore[ADA207]"
)


def _codes(out):
    return [[d["code"] for d in report["diagnostics"]] for report in json.loads(out)["reports"]]


def test_suppressed_findings_are_counted_and_do_not_fail(check, write):
    path = write(COMMENTED, "a.yaml")
    code, out, _ = check(path, "--fail-level", "warning")
    assert code == 0
    assert out == "checked 1 configuration: 0 errors, 0 warnings; suppressed 1 finding: ADA207\n"
    _, out, _ = check(path, write(COMMENTED, "b.yaml"))
    assert "; suppressed 2 findings: 2 x ADA207\n" in out
    _, out, _ = check(path, "-o", "json")
    assert json.loads(out)["summary"]["suppressed"] == 1


def test_request_for_a_rule_that_this_run_does_not_look_for_is_not_unused(check, write):
    text = COMMENTED.replace("ADA207", "ADA207, ADA010, ADA701")
    path = write(text, "a.yaml")
    assert _codes(check(path, "-o", "json")[1]) == [[]]
    assert _codes(check(path, "-o", "json", "--peft-version", "0.20")[1]) == [["ADA011"]]
    unused = write(COMMENTED.replace("ADA207", "ADA204"), "b.yaml")
    assert _codes(check(unused, "-o", "json", "--select", "ADA011")[1]) == [[]]
    assert _codes(check(unused, "-o", "json", "--select", "ADA011,ADA204")[1]) == [["ADA011"]]
    assert _codes(check(unused, "-o", "json", "--ignore", "unused-suppression")[1]) == [["ADA207"]]


def test_file_ignores_take_codes_out_of_files_that_fit(check, write, tmp_path):
    write(FEW, "tests/a.json")
    write(FEW, "b.json")
    _, out, _ = check(tmp_path, "-o", "json", "--per-file-ignores", "tests/*:ADA2,ADA414")
    assert _codes(out) == [["ADA207"], []]
    more = ("--per-file-ignores", "tests/*:ADA2", "--per-file-ignores", "*.json:ADA414")
    assert _codes(check(tmp_path, "-o", "json", *more)[1]) == [["ADA207"], []]
    _, out, _ = check(tmp_path, "--per-file-ignores", "tests/*:few-allocations")
    assert "suppressed 1 finding" in out


def test_file_ignores_of_the_project_are_a_table(check, write, tmp_path, monkeypatch):
    write(
        '[tool.adalora.per-file-ignores]\n"tests/*" = ["ADA207", "r-ignored"]\n', "pyproject.toml"
    )
    path = write(FEW | {"r": 4}, "tests/a.json")
    other = write(FEW | {"r": 4}, "b.json")
    monkeypatch.chdir(tmp_path)
    assert _codes(check("tests/a.json", "-o", "json")[1]) == [[]]
    assert _codes(check(path, "-o", "json")[1]) == [[]]
    option = ("--per-file-ignores", "b.json:ADA303")
    assert _codes(check(path, other, "-o", "json", *option)[1]) == [[], ["ADA207"]]
    # The table names the project's folders, from any working folder.
    monkeypatch.chdir(tmp_path / "tests")
    assert _codes(check("a.json", "-o", "json")[1]) == [[]]
    assert _codes(check("../b.json", "-o", "json")[1]) == [["ADA207", "ADA303"]]


@pytest.mark.parametrize("setting", ["a.json", "a.json:", ":ADA207", "a.json: ,"])
def test_file_ignore_in_another_form_exits_2(check, write, setting):
    code, _, err = check(write(SOUND), "--per-file-ignores", setting)
    assert code == 2
    assert "expected PATTERN:CODES" in err


@pytest.mark.parametrize(
    "option",
    [
        ["--ignore", "ADA001"],
        ["--ignore", "empty-input"],
        ["--per-file-ignores", "*:ADA006"],
        ["--ignore", "ADA"],
        ["--per-file-ignores", "*:ADA"],
    ],
)
def test_asking_to_ignore_everything_or_what_was_not_checked_exits_2(check, write, option):
    code, out, err = check(write(SOUND), *option)
    assert (code, out) == (2, "")
    assert "--exclude" in err


@pytest.mark.parametrize("content", ["{", "", "[]", '{"a": 1}', "\x00"])
@pytest.mark.parametrize(
    "option", [["--select", "ADA2"], ["--ignore", "ADA0"], ["--per-file-ignores", "*:ADA0"]]
)
def test_file_in_which_nothing_was_checked_fails_whatever_is_ignored(check, write, content, option):
    code, out, _ = check(write(content), *option)
    assert code == 1
    assert "error[ADA00" in out


def test_comments_are_ignored_on_request(check, write):
    unknown = COMMENTED.replace("deltaT: 100", "deltaT: 100 # adalora: ignore[XYZ]")
    for text in (COMMENTED, unknown, f"# adalora: ignore-file[ADA207]\n{COMMENTED}"):
        path = write(text, "a.yaml")
        code, out, _ = check(path, "--no-suppressions", "--fail-level=warning", "-o", "json")
        assert (code, _codes(out)) == (1, [["ADA207"]])
