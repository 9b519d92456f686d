"""Every rule does what the attributes of its class promise."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from contract_configs import configurations
from contract_fixes import inspect
from hypothesis import given

from adalora_core.checker.check import check_config
from adalora_core.checker.rules import BY_CODE, RULES, example_text, findings
from adalora_core.config.fields.block import Block
from adalora_core.config.fields.table import ALL_FIELDS, FIELDS, Treatment
from adalora_core.config.rules.base import SOUND

ROOT = Path(__file__).parents[2]
FILES = [*(ROOT / "adalora_core").glob("c*/rules/*.py")]
OF_CONFIGURATIONS = [rule for rule in RULES if rule.needs not in {"run", "file", "worker"}]
OF_RUNS = [rule for rule in RULES if rule.needs in {"run", "file"}]
"""The faults and the right runs are tests of tests/runs."""


def _codes(text, rule, options):
    if rule.needs in {"command", "tool"}:
        report = inspect(text, rule.language).report
    else:
        report = check_config(text, format=rule.language, **options)
    return {diagnostic.code for diagnostic in report.diagnostics}


def test_bad_example_checked_yields_exactly_its_own_code():
    for rule in OF_CONFIGURATIONS:
        expected = {rule.code, *rule.comes_with}
        assert _codes(example_text(rule.bad), rule, rule.example_options) == expected


def test_good_example_checked_yields_nothing():
    for rule in OF_CONFIGURATIONS:
        text = example_text(rule.good)
        # A key that the bad example names may not exist in the good one.
        key = rule.example_options.get("key")
        options = {
            name: value
            for name, value in rule.example_options.items()
            if name != "key" or f'"{key[1:]}"' in text
        }
        assert _codes(text, rule, options) == set(), rule.code


def test_rule_of_a_run_shows_two_python_texts_and_is_found_in_no_configuration():
    for rule in OF_RUNS:
        assert rule.code.startswith("ADA8")
        assert rule.language == "python", rule.code
        assert rule.bad != rule.good, rule.code
        for text in (rule.bad, rule.good):
            compile(text, rule.code, "exec")
        assert list(rule.check(Block(SOUND))) == [], rule.code


def test_attributes_of_a_rule_are_complete_and_in_form():
    for rule in RULES:
        assert re.fullmatch(r"ADA\d{3}", rule.code), rule.code
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", rule.name), rule.code
        assert rule.severity in {"error", "warning", "info"}, rule.code
        for text in (rule.summary, rule.why, rule.hint):
            assert text.strip() == text, rule.code
        assert not rule.summary.endswith("."), rule.code
        assert not rule.hint.endswith("."), rule.code
        assert rule.why.endswith((".", ")")), rule.code


def test_fields_that_rules_name_exist():
    """A rule is never called for a field that does not exist."""
    unknown = {
        type(rule).__name__: sorted(names)
        for rule in RULES
        if (names := set(rule.inputs) - set(ALL_FIELDS))
    }
    assert unknown == {}


@pytest.mark.parametrize("attribute", ["code", "name", "summary"])
def test_codes_names_and_summaries_over_all_rules_are_unique(attribute):
    classes = {}
    for rule in RULES:
        classes.setdefault(getattr(rule, attribute), []).append(type(rule).__name__)
    assert [(text, same) for text, same in classes.items() if len(same) > 1] == []


def test_rules_are_the_classes_with_a_code_in_all_modules_in_the_order_of_codes():
    """A class that a test or a tool defines later joins nothing."""
    modules = {}
    for path in FILES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                targets = [each.targets[0] for each in node.body if isinstance(each, ast.Assign)]
                if any(isinstance(name, ast.Name) and name.id == "code" for name in targets):
                    modules[node.name] = path.stem
    listed = {type(rule).__name__: type(rule).__module__.rpartition(".")[2] for rule in RULES}
    assert listed == modules
    assert len(RULES) == len(modules) > 130
    assert [rule.code for rule in RULES] == sorted(BY_CODE)


def test_rule_without_a_name_is_named_as_its_class_and_a_written_name_stays():
    assert BY_CODE["ADA303"].name == "r-ignored"
    assert BY_CODE["ADA001"].name == "syntax-error"


def test_rule_on_two_fields_with_one_wrong_type_is_skipped_and_others_are_not():
    report = check_config(
        {"peft_type": "ADALORA", "total_step": 100, "tinit": "x", "tfinal": 200, "init_r": 4}
    )
    codes = {diagnostic.code for diagnostic in report.errors}
    assert codes == {"ADA102", "ADA301"}


def test_broken_schedule_checked_names_phases_and_largest_legal_values():
    report = check_config({"peft_type": "ADALORA", "tinit": 6000, "tfinal": 11000} | {
        "total_step": 13500, "init_r": 12, "target_r": 8})  # fmt: skip
    (finding,) = report.errors
    assert "warm-up: steps 0 to 2499; budgeting: no steps; final phase: steps 2500 to 13499" in (
        finding.message
    )
    assert "tinit to at most 2499" in finding.hint
    assert "tfinal to at most 7499" in finding.hint
    assert "total_step to at least 17001" in finding.hint
    assert [related.pointer for related in finding.related] == ["/tinit", "/tfinal"]


@pytest.mark.parametrize(
    ("schedule", "phases"),
    [
        ((500, 500, 1000), ("steps 0 to 499", "steps 500 to 999")),
        ((9, 1, 10), ("steps 0 to 8", "step 9")),
        ((20, 0, 10), ("steps 0 to 9", "no steps")),
        ((0, 10, 10), ("no steps", "steps 0 to 9")),
        ((0, 12, 10), ("no steps", "12 steps, more than the whole run")),
    ],
)
def test_phases_of_a_broken_schedule_share_no_step(schedule, phases):
    fields = dict(zip(("tinit", "tfinal", "total_step"), schedule, strict=True))
    (finding,) = (d for d in check_config(SOUND | fields).errors if d.code == "ADA202")
    warmup, final = phases
    expected = f"(warm-up: {warmup}; budgeting: no steps; final phase: {final})"
    assert finding.message.endswith(expected)


@given(configurations())
def test_rules_chosen_by_what_is_set_report_all_that_all_rules_report(values):
    block = Block(values)
    if block.is_other_method:
        return
    everything = [
        finding
        for rule in RULES
        if block.method in rule.methods and block.invalid.isdisjoint(rule.inputs)
        for finding in rule.check(block)
    ]
    assert list(findings(block)) == everything


OTHER_VALUES = {
    True: False,
    False: True,
    None: {"a": 1},
    8: 9,
    16: 32,
    "megatron.core": "other.core",
}


@pytest.mark.parametrize("field", FIELDS.values(), ids=lambda field: field.name)
def test_setting_is_judged_by_its_treatment_in_the_table(field):
    if field.treatment is Treatment.HONOURED:
        return
    value = {
        "alpha_pattern": {"q": 1}, "loftq_config": {"loftq_bits": 4},
        "alora_invocation_tokens": [1], "target_parameters": ["mlp"],
        "monteclora_config": {"num_samples": 4},
    }.get(field.name)  # fmt: skip
    if value is None:
        value = OTHER_VALUES[field.default]
    report = check_config(SOUND | {"task_type": "CAUSAL_LM", field.name: value})
    (finding,) = report.diagnostics
    assert finding.pointer == f"/{field.name}"
    # PEFT empties a loftq_config that no init_lora_weights asks for.
    runs = field.treatment is Treatment.IGNORED or field.name == "loftq_config"
    expected = "warning" if runs else "error"
    assert finding.severity == expected


@pytest.mark.parametrize("kept", [[3, 2], [1, 0]])
def test_rank_pattern_that_keeps_more_or_fewer_than_the_budget_is_reported(kept):
    pattern = {
        f"layers.{index}.q_proj.lora_E": [True] * count + [False] * (12 - count)
        for index, count in enumerate(kept)
    }
    saved = SOUND | {"target_r": 2, "inference_mode": True, "rank_pattern": pattern}
    codes = {d.code for d in check_config(saved).diagnostics}
    assert codes == {"ADA305"}
