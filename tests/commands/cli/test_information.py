"""Test `adalora rule` and `adalora schema`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from adalora_core.checker.rules import RULES
from adalora_core.commands.cli import main
from adalora_core.config.schema import config_schema

SCHEMAS = Path(__file__).parents[3] / "schemas"


def test_rule_without_a_code_lists_every_rule(capsys):
    assert main(["rule"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [rule.code for rule in RULES]


@pytest.mark.parametrize("asked", ["ADA202", "ada202", "no-budgeting-phase"])
def test_rule_asked_by_code_or_name_is_explained(asked, capsys):
    assert main(["rule", asked]) == 0
    out = capsys.readouterr().out
    assert out.startswith("ADA202 no-budgeting-phase: error")
    for part in (
        "Why: ",
        "Error that may follow:\n\n    The s",
        "What to do: ",
        "Wrong:",
        "Right:",
    ):
        assert f"\n{part}" in out
    assert not re.search(r"```|\*\*|^#|hl_lines", out, re.MULTILINE)  # marks for the site


def test_rule_that_does_not_exist_exits_2(capsys):
    assert main(["rule", "ADA999"]) == 2
    assert "there is no rule 'ADA999'" in capsys.readouterr().err


@pytest.mark.parametrize("draft", ["2020-12", "draft-07"])
def test_schema_printed_is_the_schema(draft, capsys):
    assert main(["schema", "--draft", draft]) == 0
    assert json.loads(capsys.readouterr().out) == config_schema(draft)


def test_schema_for_an_editor_is_the_committed_one_and_accepts_no_option(capsys):
    options = ["--flavour", "editor"]
    committed = SCHEMAS / "adalora-config.editor.schema.json"
    assert main(["schema", *options]) == 0
    printed = capsys.readouterr().out
    assert printed == committed.read_text("utf-8"), "run: python tools/regenerate.py schemas"
    for more in (["--draft", "draft-07"], ["--strict-keys"]):
        with pytest.raises(SystemExit) as caught:
            main(["schema", *options, *more])
        assert caught.value.code == 2
        assert f"{' '.join(options)} accepts none of" in capsys.readouterr().err
