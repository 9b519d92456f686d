"""Comments that suppress findings: effective, unused and refused requests."""

from __future__ import annotations

import json

import pytest
from contract_fixes import fix, inspect

from adalora_core.checker.documents import decode
from adalora_core.checker.pipeline.suppression import comments
from adalora_core.checker.rules import RULES
from adalora_core.config.rules.base import SOUND
from adalora_core.floor.limits import DEFAULT_LIMITS

FEW = SOUND | {"deltaT": 100}
"""One warning, ADA207, at the value of deltaT."""


def _yaml(**comments_by_key):
    return "".join(
        f"{key}: {json.dumps(value)}{comments_by_key.get(key, '')}\n" for key, value in FEW.items()
    )


def _toml(**comments_by_key):
    return "".join(
        f"{key} = {json.dumps(value)}{comments_by_key.get(key, '')}\n" for key, value in FEW.items()
    )


def _said(text, format_="yaml"):
    report = inspect(text, format_).report
    return [d.code for d in report.diagnostics], [d.code for d in report.suppressed]


@pytest.mark.parametrize(("format_", "write"), [("yaml", _yaml), ("toml", _toml)])
@pytest.mark.parametrize(
    "request_",
    [
        {"deltaT": "  # adalora: ignore[ADA207]"},
        {"deltaT": " # why not  # Adalora : IGNORE [ few-allocations ] because"},
        {"deltaT": " # adalora: ignore[ada207]"},
        {"tfinal": "\n# adalora: ignore[ADA207]\n\n  # and a remark"},
        {"total_step": "\n# adalora: ignore-file[ADA207]"},
    ],
)
def test_finding_that_a_comment_names_is_suppressed(format_, write, request_):
    assert _said(write(), format_) == (["ADA207"], [])
    assert _said(write(**request_), format_) == ([], ["ADA207"])


@pytest.mark.parametrize(
    ("end", "found"),
    [
        (r"\n# adalora: ignore-file[ADA202]", ([], ["ADA202"])),
        (r"\n#\u2003adalora: ignore-file[ADA202]", (["ADA202", "ADA012"], [])),
        (r"\n#\t\u0061dalora: ignore-file[ADA202]", (["ADA202", "ADA012"], [])),
        (r'\n# ada", "lora: ignore-file[ADA202]', (["ADA202", "ADA012"], [])),
    ],
    ids=["plain", "blank", "letter", "strings"],
)
def test_request_that_the_text_of_a_notebook_does_not_show_has_no_effect(end, found):
    values = (
        "init_r=12, target_r=8, target_modules=['q_proj'], tinit=500, tfinal=500, total_step=1000"
    )
    call = f"AdaLoraConfig({values})"
    cells = f'[{{"source": ["#adalora: x"]}}, {{"cell_type": "code", "source": ["{call}{end}"]}}]'
    assert _said(f'{{"cells": {cells}}}', "notebook") == found


def test_finding_over_several_lines_is_suppressed_at_its_last_line_too():
    text = _yaml().replace('["q_proj", "v_proj"]', "'q_proj,\n  v_proj'  # adalora: ignore[ADA505]")
    assert _said(text) == (["ADA207"], ["ADA505"])


@pytest.mark.parametrize(
    "request_",
    [
        {"total_step": "  # adalora: ignore[ADA207]"},  # another line
        {"deltaT": "  # adalora: ignore[ADA206]"},  # another rule
        {"total_step": "\n# adalora: ignore[ADA207]"},  # before nothing
    ],
)
def test_request_that_reaches_no_finding_is_reported_as_unused(request_):
    assert _said(_yaml(**request_)) == (["ADA207", "ADA011"], [])


@pytest.mark.parametrize(
    "comment",
    [
        "# adalora: ignore",
        "# adalora: ignore[]",
        "# adalora: ignore[ , ]",
        "# adalora: ignore ADA207",
        "# adalora: ignore-file",
        "# adalora: ignore[ADA2]",
        "# adalora: ignore[all]",
        "# adalora: ignore[ADA999]",
        "# adalora: ignore[ADA006]",
        "# adalora: ignore[ADA011]",
        "# adalora: disable[ADA207]",
    ],
)
def test_request_for_everything_or_for_no_rule_has_no_effect_and_is_reported(comment):
    assert _said(_yaml(deltaT=f"  {comment}")) == (["ADA207", "ADA012"], [])


@pytest.mark.parametrize("comment", ["# adalora: see the wiki", "# adalora", "# ignore[ADA207]"])
def test_comment_that_is_not_a_request_is_ignored(comment):
    assert _said(_yaml(deltaT=f"  {comment}")) == (["ADA207"], [])


def test_words_of_a_request_are_judged_one_by_one():
    text = _yaml(deltaT="  # adalora: ignore[ADA207, ADA999, ADA204]")
    assert _said(text) == (["ADA012", "ADA011"], ["ADA207"])


def test_text_that_only_looks_like_a_comment_suppresses_nothing():
    text = _yaml() + "revision: 'x # adalora: ignore-file[ADA207]'\n"
    assert _said(text) == (["ADA207"], [])
    text = _yaml() + "revision: |\n  # adalora: ignore-file[ADA207]\n"
    assert _said(text) == (["ADA207"], [])
    text = _toml() + 'revision = """\n# adalora: ignore-file[ADA207]\n"""\n'
    assert _said(text, "toml") == (["ADA207"], [])


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("# adalora: ignore-file[ADA001]\na: [", "ADA001"),
        ("# adalora: ignore-file[no-adalora-block]\na: 1\n", "ADA006"),
        ("# adalora: ignore-file[ADA004]\na: \xff\n".encode("latin-1"), "ADA004"),
        ("# adalora: ignore-file[ADA008]\npeft_type: ADALORA\n---\na: 1\n", "ADA008"),
    ],
)
def test_document_in_which_nothing_was_checked_keeps_its_finding(content, code):
    assert _said(content) == ([code], [])


def test_unused_request_is_not_taken_back():
    text = _yaml().replace("init_r: 12", "init_r: 12  # adalora: ignore[ADA204]")
    assert fix(text, "yaml").document.text == text


def test_suppressed_finding_is_not_fixed():
    text = _yaml().replace("init_r: 12", "init_r: 12.0  # adalora: ignore[ADA106]")
    assert fix(text, "yaml").document.text == text


def test_comments_are_found_and_nothing_else():
    yaml = "a: \"x # y\" # 1\nb: |\n  # no\n# 2\nc: plain#no # 3\nd: [a, #4\n  'b # c'] # 5\n"
    toml = (
        'a = "x # y" # 1\nb = """\n# no\\" # no\n""" # 2\n\'d # no\' = 1 # 3 "\nc = [ # 4\n] # 5\n'
    )
    for text, format_ in ((yaml, "yaml"), (toml, "toml")):
        document = decode(text.encode(), format_, DEFAULT_LIMITS)
        found = [text[start:end] for start, end in comments(document)]
        assert [comment.strip('#" ') for comment in found] == ["1", "2", "3", "4", "5"]


def test_rules_that_cannot_be_ignored_are_those_after_which_nothing_was_checked():
    assert [rule.code for rule in RULES if not rule.can_be_ignored] == [
        "ADA001", "ADA005", "ADA006", "ADA007", "ADA008", "ADA009", "ADA013"]  # fmt: skip
