"""The rules as CEL: an engine that is not ours says what ours says."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import cel
import jsonschema
import pytest
from contract_configs import SOUND, configurations
from hypothesis import given, settings
from hypothesis import strategies as st

from adalora_core.contract.block import Block
from adalora_core.contract.constraints.expressions import EXPRESSIONS, NOT_EXPRESSED
from adalora_core.contract.constraints.rules_file import (
    FILE,
    SCHEMA_FILE,
    rules_file,
    rules_schema,
    rules_schema_text,
    rules_text,
)
from adalora_core.contract.engine import run
from adalora_core.contract.fields import FIELDS
from adalora_core.contract.rules import BY_CODE, RULES
from adalora_core.contract.rules.settings import IGNORED

SCHEMAS = Path(__file__).parents[2] / "schemas"
CORPUS = json.loads((Path(__file__).parent / "corpus" / "configurations.json").read_text("utf-8"))
ENTRIES = json.loads((SCHEMAS / FILE).read_text("utf-8"))["rules"]
KUBERNETES = {"rule", "message", "messageExpression", "reason", "fieldPath", "optionalOldSelf"}


@functools.cache
def _program(expression):
    return cel.compile(expression)


def _holds(entry, values):
    answer = _program(entry["rule"]).execute({"self": values})
    assert isinstance(answer, bool), entry
    return answer


def _is_reported(entry, block, findings):
    """Whether our engine says it, at this field where several fields share code and severity."""
    siblings = {
        each["fieldPath"]
        for each in ENTRIES
        if (each["code"], each["severity"]) == (entry["code"], entry["severity"])
    }
    field = entry["fieldPath"][1:]
    return any(
        finding.rule.code == entry["code"]
        and (finding.severity or finding.rule.severity) == entry["severity"]
        and (len(siblings) == 1 or finding.path[:1] == block.at(field)[:1])
        for finding in findings
    )


def _compare(values):
    """Compare every expression whose inputs are sound; return how many spoke."""
    block = Block(values)
    if block.is_other_method:
        return 0
    findings = run(block)
    spoke = 0
    for entry in ENTRIES:
        if not block.invalid.isdisjoint(entry["inputs"]):
            continue
        violated = not _holds(entry, values)
        assert violated == _is_reported(entry, block, findings), (entry["code"], entry["fieldPath"])
        spoke += violated
    return spoke


@pytest.mark.slow
@settings(max_examples=1000)
@given(configurations())
def test_expressions_say_what_the_engine_says_of_any_configuration(values):
    _compare(values)


# The settings that configurations() leaves out, so that every expression meets both of its answers.
_rarer = {
    "r": st.integers(6, 10),
    "megatron_core": st.sampled_from(["megatron.core", "other", None]),
    "qalora_group_size": st.sampled_from([16, 32]),
    "use_rslora": st.booleans(),
    "alpha_pattern": st.sampled_from([None, {}, {"q": 3}]),
    "eva_config": st.sampled_from([None, {}, {"rho": 2}]),
    "exclude_modules": st.none()
    | st.lists(st.sampled_from(["q", "k.*", "v", "All-Linear", "v."]), max_size=3),
    "modules_to_save": st.none() | st.lists(st.sampled_from(["q", "head"]), max_size=3),
    "target_modules": st.none()
    | st.lists(st.sampled_from(["q", "k", ".*v", "q", "", "all-linear"]), max_size=3),
    "ensure_weight_tying": st.booleans(),
    "trainable_token_indices": st.none()
    | st.lists(st.integers(-1, 3), max_size=2)
    | st.dictionaries(st.just("wte"), st.lists(st.integers(-1, 3), max_size=2)),
    "layer_replication": st.sampled_from([None, [], [[0, 2]]]),
    "inference_mode": st.booleans(),
    "task_type": st.sampled_from([None, "CAUSAL_LM", "SEQ_CLS"]),
    "deltaT": st.integers(1, 60),
    "init_r": st.sampled_from([2, 4]),
    "target_r": st.sampled_from([1, 2]),
    "rank_pattern": st.dictionaries(
        st.sampled_from(["q.lora_E", "q.lora_E.default", "q"]),
        st.lists(st.booleans(), min_size=2, max_size=2) | st.just([False, False]) | st.just(3),
        max_size=2,
    ),
}


@pytest.mark.slow
@settings(max_examples=600)
@given(st.fixed_dictionaries({}, optional=_rarer))
def test_expressions_say_what_the_engine_says_of_rarer_settings(drawn):
    _compare(SOUND | drawn)


def _unpacked(node):
    if isinstance(node, dict):
        return {
            key: {name: [bit == "1" for bit in bits] for name, bits in value.items()}
            if key == "rank_pattern" and value
            else _unpacked(value)
            for key, value in node.items()
        }
    return node


def test_expressions_say_what_the_engine_says_of_the_corpus():
    assert sum(_compare(_unpacked(entry["content"])) for entry in CORPUS) > 20


@pytest.mark.parametrize("code", EXPRESSIONS)
def test_examples_of_a_rule_are_told_apart_by_its_expressions(code):
    rule = BY_CODE[code]
    entries = [entry for entry in ENTRIES if entry["code"] == code]
    assert not all(_holds(entry, rule.bad) for entry in entries)
    assert all(_holds(entry, rule.good) for entry in entries)


@pytest.mark.parametrize("name", IGNORED)
def test_each_ignored_setting_has_an_expression_that_speaks_of_it_alone(name):
    default = FIELDS[name].default
    if isinstance(default, dict) or default is None:
        value = {"a": 1}
    else:
        value = "other" if isinstance(default, str) else not default
        value = 99 if type(default) is int else value
    values = SOUND | {name: value}
    violated = [entry["fieldPath"] for entry in ENTRIES if not _holds(entry, values)]
    assert violated == [f".{name}"]
    assert _compare(values) == 1


def test_another_engine_tells_the_examples_apart_too():
    celpy = pytest.importorskip(
        "celpy", reason="would prove that the expressions do not lean on one engine's leniency"
    )
    environment = celpy.Environment()
    for entry in ENTRIES:
        program = environment.program(environment.compile(entry["rule"]))
        rule = BY_CODE[entry["code"]]
        for values in (rule.bad, rule.good, {}):
            answer = program.evaluate({"self": celpy.json_to_cel(values)})
            assert bool(answer) == _holds(entry, values), (entry["code"], entry["fieldPath"])


def test_every_rule_has_an_expression_or_a_reason():
    assert set(EXPRESSIONS) | set(NOT_EXPRESSED) == {rule.code for rule in RULES}
    assert not set(EXPRESSIONS) & set(NOT_EXPRESSED)


def test_cross_field_rules_without_an_expression_are_only_these():
    several = {rule.code for rule in RULES if len(rule.inputs) > 1}
    assert several & set(NOT_EXPRESSED) == {"ADA305", "ADA422", "ADA505"}


def test_committed_files_are_what_the_rules_say():
    assert (SCHEMAS / FILE).read_text("utf-8") == rules_text()
    assert (SCHEMAS / SCHEMA_FILE).read_text("utf-8") == rules_schema_text()


def test_file_fits_its_own_schema():
    jsonschema.Draft202012Validator.check_schema(rules_schema())
    jsonschema.validate(rules_file(), rules_schema())
    assert rules_file()["$schema"] == rules_schema()["$id"]


def test_entries_without_our_own_keys_have_the_shape_of_kubernetes():
    for entry in ENTRIES:
        own = {"code", "name", "severity", "inputs"}
        assert set(entry) - own <= KUBERNETES
        assert {"rule", "message"} <= set(entry)
        # A message of Kubernetes has one line and at most 2048 characters.
        assert "\n" not in entry["message"]
        assert len(entry["message"]) <= 2048


MESSAGES = {
    "ADA202": (
        {"tinit": 500, "tfinal": 600},
        "no budgeting phase: tinit 500 >= total_step 1000 - tfinal 600",
    ),
    "ADA207": ({"deltaT": 100}, "only 5 allocations in the budgeting phase"),
    "ADA301": ({"init_r": 4}, "target_r 8 is above init_r 4"),
    "ADA413": (
        {"init_r": 96, "lora_alpha": 8},
        "the effective scale is lora_alpha 8 / init_r 96",
    ),
}


def test_message_expressions_name_the_values():
    expressions = {
        entry["code"]: entry["messageExpression"]
        for entry in ENTRIES
        if "messageExpression" in entry
    }
    assert expressions.keys() == MESSAGES.keys()
    for code, (fields, text) in MESSAGES.items():
        assert _program(expressions[code]).execute({"self": SOUND | fields}) == text


def test_largest_integers_do_not_leave_the_64_bits_of_the_engine():
    largest = 2**63 - 1
    for fields in (
        {"tinit": largest, "tfinal": largest, "total_step": largest},
        {"init_r": largest, "target_r": largest},
        {"total_step": largest, "deltaT": largest},
    ):
        _compare(SOUND | fields)
