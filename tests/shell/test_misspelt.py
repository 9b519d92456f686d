"""Test the answers to misspelt commands, options and settings."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from adalora_core.commands.cli import COMMANDS, main


@pytest.fixture
def answer(capsys):
    """Run a command that exits with 2, and return its last lines."""

    def run(*arguments):
        try:
            code = main(arguments)
        except SystemExit as exit_:
            code = exit_.code
        out, err = capsys.readouterr()
        assert (code, out) == (2, "")
        return err

    return run


@pytest.mark.parametrize(
    ("word", "meant"), [("chekc", "check"), ("Check", "check"), ("exportlora", "export-lora")]
)
def test_similar_command_is_named(answer, word, meant):
    first = answer(word, "a.json").splitlines()[0]
    assert first == f"adalora: unknown command {word!r}; did you mean {meant}?"


def test_command_that_resembles_none_gets_two_lines(answer):
    first, second = answer("zzz").splitlines()
    assert first == "adalora: unknown command 'zzz'"
    assert second == "'adalora help' lists the commands"


def test_no_command_gets_the_list(answer):
    assert all(f"\n  {name} " in answer() for name in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["check", "--fixx"], "; did you mean --fix?"),
        (["check", "--fail_level=error"], "; did you mean --fail-level?"),
        (["check", "--fixx", "--isolatd", "--fixx"], "; did you mean --fix --isolated?"),
        (["plan", "a.json", "--wieghts", "3"], "; did you mean --weights?"),
        (["schema", "--flavor", "editor"], "; did you mean --flavour?"),
        (["check", "--zzz"], ""),
        (["rule", "ADA202", "stray"], ""),
    ],
)
def test_similar_option_is_named(answer, arguments, meant):
    message, _ = answer(*arguments).splitlines()
    assert message.startswith(f"adalora {arguments[0]}: error: unrecognized arguments: ")
    assert message.endswith(meant or arguments[-1])


def test_similar_setting_is_named(answer):
    Path("pyproject.toml").write_text("[tool.adalora]\nfail_level = 'error'\n")
    assert "unknown key; did you mean fail-level?; expected one of all-files" in answer("check")


def test_right_arguments_compare_nothing(monkeypatch):
    monkeypatch.setitem(sys.modules, "difflib", None)
    assert main(["env"]) == 0
