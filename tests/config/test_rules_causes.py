"""One slip is one finding for people, with what follows from it; programs get every code."""

from __future__ import annotations

import json

import pytest
from contract_configs import configurations
from contract_fixes import fix, inspect
from hypothesis import given

from adalora_core.checker.check import check_config
from adalora_core.checker.reports import FORMATS, Outcome, render
from adalora_core.checker.reports.text import _slips
from adalora_core.checker.rules import RULES, example_text
from adalora_core.commands.cli import main
from adalora_core.config.fields.block import Block
from adalora_core.config.rules import findings, with_causes
from adalora_core.config.rules.base import SOUND
from adalora_core.config.rules.rank_patterns import SAVED


def _without(*names, **more):
    return {key: value for key, value in SOUND.items() if key not in names} | more


def _followers(values, **options):
    found = check_config(json.dumps(values), **options).diagnostics
    return {(head.code, head.pointer): {each.code for each in rest} for head, rest in _slips(found)}


LACKS_TOTAL = _without("total_step", total_steps=1000)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (LACKS_TOTAL, {("ADA104", "/total_steps"): {"ADA201"}}),
        (
            _without("init_r", "target_r", initial_r=16, target_rank=8),
            {("ADA104", "/initial_r"): {"ADA306"}, ("ADA104", "/target_rank"): set()},
        ),
        (
            _without("init_r", initial_r=24, target_r=16),
            {("ADA104", "/initial_r"): {"ADA301"}},
        ),
        (_without("init_r", "target_r", r=16), {("ADA303", "/r"): {"ADA306"}}),
        (_without("target_modules", modules=["q"]), {("ADA104", "/modules"): {"ADA414"}}),
        (
            SOUND | {"base_model_name_or_path": "gpt2", "target_modules": ["c_atn"]},
            {("ADA510", "/target_modules/0"): {"ADA513"}},
        ),
        (
            SAVED | {"rank_pattern": {"q.x": [True] * 4, "q.lora_E": [True] * 3}},
            {
                ("ADA305", "/rank_pattern"): set(),
                ("ADA309", "/rank_pattern/q.x"): set(),
                ("ADA304", "/rank_pattern/q.lora_E"): set(),
                ("ADA312", "/rank_pattern/q.lora_E"): set(),
            },
        ),
        # The remedy does not end these, or leaves open what the rule reads.
        (
            _without("init_r", initial_r=14, target_r=16),
            {("ADA104", "/initial_r"): set(), ("ADA301", "/target_r"): set()},
        ),
        (
            _without("init_r", initial_r="24", target_r=16),
            {("ADA104", "/initial_r"): set(), ("ADA301", "/target_r"): set()},
        ),
        (
            SOUND | {"deltaT": 0, "beta1": "2"},
            {("ADA102", "/beta1"): set(), ("ADA204", "/deltaT"): set()},
        ),
    ],
)
def test_finding_that_the_remedy_of_another_ends_follows_from_that(values, expected):
    assert _followers(values) == expected
    nested = {"run": {"peft": values}}
    assert _followers(nested, key="/run/peft") == {
        (code, f"/run/peft{pointer}"): rest for (code, pointer), rest in expected.items()
    }


def test_calls_that_share_a_slip_share_its_finding():
    code = "from peft import AdaLoraConfig\ns = {'total_steps': 9, 'init_r': 12, 'target_r': 8}\n"
    code += "one = AdaLoraConfig(**s)\nother = AdaLoraConfig(tinit=1, **s)\n"
    (head, rest), *more = _slips(check_config(code, format="python").diagnostics)
    assert (head.code, [each.code for each in rest]) == ("ADA104", ["ADA201", "ADA201"])
    assert {each.code for each, _ in more} <= {"ADA414"}


@pytest.mark.parametrize("values", [LACKS_TOTAL, _without("init_r", "target_r", r=16)])
def test_mending_the_causes_ends_what_follows_from_them(values):
    assert fix(json.dumps(values), "json", unsafe=True).report.diagnostics == ()


def test_what_follows_appears_itself_if_its_cause_does_not(tmp_path, capsys):
    path = tmp_path / "a.yaml"
    lines = [f"{key}: {json.dumps(value)}" for key, value in LACKS_TOTAL.items()]

    def shown(*options, comment=""):
        path.write_text("\n".join(lines) + comment + "\n")
        assert main(["check", str(path), "--isolated", *options]) == 1
        return [
            each
            for each in capsys.readouterr().out.splitlines()
            if "[ADA" in each or "note" in each
        ]

    (head, note) = shown()
    assert head.startswith("warning[ADA104]")
    assert note.startswith("  note: hence error[ADA201] ")
    for options, comment in (
        (["--ignore", "ADA104"], ""),
        (["--select", "ADA201"], ""),
        ([], "  # adalora: ignore[ADA104]"),
    ):
        head, *notes = shown(*options, comment=comment)
        assert head.startswith("error[ADA201]")
        assert notes[0].startswith("  note: follows from ADA104 here (")


@pytest.mark.parametrize("format_", [each for each in FORMATS if each != "full"])
def test_formats_for_programs_keep_every_code_and_the_hint_of_the_cause(format_):
    text = render(Outcome((check_config(json.dumps(LACKS_TOTAL)),)), format_)
    assert "ADA104" in text
    assert "ADA201" in text
    hints = 0 if format_ == "concise" else 2
    assert text.count("rename `total_steps` to `total_step`") == hints


@pytest.mark.parametrize(
    "rule", [each for each in RULES if each.unsafe_fix or each.safe_fix], ids=lambda each: each.code
)
def test_line_that_can_be_pasted_is_the_line_that_the_fix_writes(rule):
    text = rule.bad if isinstance(rule.bad, str) else example_text(rule.bad)
    lines = inspect(text, rule.language).report.render().splitlines()
    fixed = {
        line.strip() for line in fix(text, rule.language, unsafe=True).document.text.splitlines()
    }
    pasted = {
        line.strip() for at, line in enumerate(lines) if at and "[--fix" in lines[at - 1] and line
    }
    assert pasted or rule.code == "ADA309"  # whose line is too long
    assert pasted <= fixed


@given(configurations())
def test_no_finding_is_lost_and_no_cause_has_a_cause(values):
    found = check_config(values).diagnostics
    groups = list(_slips(found))
    shown = [each for head, rest in groups for each in (head, *rest)]
    assert sorted(map(repr, shown)) == sorted(map(repr, found))
    for head, rest in groups:
        assert head.cause is None
        assert all(
            (each.cause.code, each.cause.pointer) == (head.code, head.pointer) for each in rest
        )


@pytest.mark.parametrize(
    "values", [SOUND, SOUND | {"deltaT": 0}, SOUND | {"deltaT": 0, "beta1": 2}]
)
def test_nothing_is_judged_again_where_nothing_could_follow(values):
    block, asked = Block(values), []
    found = list(findings(block))
    assert with_causes(block, found, asked.append) == found
    assert asked == []
