"""Test what is reported: select, ignore, fail level, project settings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adalora_core.commands.cli import main
from adalora_core.config.rules.base import SOUND

MIXED = SOUND | {"deltaT": 0, "r": 4, "beta1": 2, "target_modules": None}
"""Findings ADA103, ADA204, ADA303, and ADA414 of severity info."""


def _codes(out):
    return {d["code"] for report in json.loads(out)["reports"] for d in report["diagnostics"]}


@pytest.mark.parametrize(
    ("options", "codes"),
    [
        ([], {"ADA103", "ADA204", "ADA303", "ADA414"}),
        (["--select", "ADA2,ADA303"], {"ADA204", "ADA303"}),
        (["--select", "out-of-range"], {"ADA103"}),
        (["--ignore", "ada1, r-ignored"], {"ADA204", "ADA414"}),
        (["--select", "ADA2,ADA3", "--ignore", "ADA303"], {"ADA204"}),
    ],
)
def test_rules_selected_and_ignored_decide_what_is_reported(check, write, options, codes):
    _, out, _ = check(write(MIXED), "-o", "json", *options)
    assert _codes(out) == codes


def test_word_that_fits_no_rule_exits_2(check, write):
    code, _, err = check(write(SOUND), "--select", "ADA999")
    assert code == 2
    assert "there is no rule 'ADA999'; expected a code" in err


@pytest.mark.parametrize(
    ("word", "meant"),
    [("ADA2020", None), ("ADA-202", "ADA202"), ("r-equals", None), ("Equal-rank", "equal-ranks")],
)
def test_misspelt_rule_gets_a_proposal_wherever_it_is_named(word, meant, check, write, capsys):
    path = write(f"init_r: 12  # adalora: ignore[{word}]\npeft_type: ADALORA\n", "a.yaml")
    said = [check(path, option, word)[2] for option in ("--select", "--ignore")]
    said += [check(path, "--select", "ADA012")[1]]
    main(["rule", word])
    said += [capsys.readouterr().err]
    for each in said if meant else said[2:]:
        assert (
            f"there is no rule '{word}'" + (f" (did you mean {meant}?);" if meant else ";") in each
        )


def test_exit_code_follows_the_selected_findings_and_the_fail_level(check, write):
    path = write(MIXED)
    assert check(path, "--select", "ADA303")[0] == 0
    assert check(path, "--select", "ADA303", "--fail-level", "warning")[0] == 1
    assert check(path, "--select", "ADA414", "--fail-level", "warning")[0] == 0
    assert check(path, "--select", "ADA414", "--fail-level", "info")[0] == 1
    assert check(path, "--exit-zero")[0] == 0


@pytest.fixture
def project():
    def write_section(text):
        Path("pyproject.toml").write_text(f"[tool.adalora]\n{text}")

    return write_section


def test_project_settings_are_defaults_and_the_command_line_wins(check, write, project):
    path = write(MIXED)
    project('select = ["ADA303"]\nfail-level = "warning"\noutput-format = "json"\n')
    code, out, _ = check(path)
    assert (code, _codes(out)) == (1, {"ADA303"})
    assert check(path, "--fail-level", "error")[0] == 0
    assert _codes(check(path, "--select", "ADA2")[1]) == {"ADA204"}
    assert "ADA204" in check(path, "--isolated", "-o", "concise")[1]


def test_excluded_folder_of_the_project_is_excluded_wherever_the_command_runs(
    check, write, tmp_path, monkeypatch
):
    write('[tool.adalora]\nexclude = ["scratch/*"]\n', "pyproject.toml")
    write(MIXED, "scratch/a.json")
    write(SOUND, "b.json")
    monkeypatch.chdir(tmp_path)
    assert check(".")[0] == 0
    monkeypatch.chdir(tmp_path / "scratch")
    assert check("..")[0] == 0


def test_project_settings_are_found_above_the_working_folder(check, write, project, monkeypatch):
    project("strict-keys = true\n")
    Path("sub").mkdir()
    monkeypatch.chdir("sub")
    assert check(write(SOUND | {"bogus": 1}))[0] == 1


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("selct = []", "unknown key"),
        ("select = 3", "expected a list of strings"),
        ('fail-level = "fatal"', "expected one of error, warning, info"),
        ('strict-keys = "yes"', "expected bool"),
        ("x = ", "invalid value (line 2)"),
        ('per-file-ignores = ["a:ADA207"]', "expected a table of lists of strings"),
        ('per-file-ignores = {a = "ADA207"}', "expected a table of lists of strings"),
        ('ignore = ["ADA999"]', "tool.adalora.ignore: there is no rule 'ADA999'"),
        ('select = ["none"]', "tool.adalora.select: there is no rule 'none'"),
        ('per-file-ignores = {a = ["ADA999"]}', "per-file-ignores: there is no rule 'ADA999'"),
        ('peft-version = "main"', "tool.adalora.peft-version: "),
        ('limit = ["width=3"]', "tool.adalora.limit: "),
    ],
)
def test_wrong_project_settings_exit_2_and_name_file_and_key(check, write, project, text, phrase):
    project(text)
    code, out, err = check(write(SOUND))
    assert (code, out) == (2, "")
    assert phrase in err
    assert "pyproject.toml" in err


@pytest.mark.parametrize(
    "text", ['[tool]\nadalora = "strict"\n', "[[tool.adalora]]\nignore = []\n"]
)
def test_project_settings_that_are_not_a_table_exit_2(check, write, tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    write(text, "pyproject.toml")
    code, out, err = check(write(SOUND))
    assert (code, out) == (2, "")
    assert "tool.adalora: expected a table, got " in err


def test_project_without_tools_has_no_settings(check, write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write('tool = "not a table, nor of adalora"\n', "pyproject.toml")
    assert check(write(SOUND))[0] == 0
