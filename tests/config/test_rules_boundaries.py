"""Rules are errors where the runtime fails, and warnings one step beside it."""

from __future__ import annotations

import json
import math

import pytest
from contract_fixes import inspect

from adalora_core.checker.check import check_config, validate_config
from adalora_core.checker.rules import example_text
from adalora_core.config.findings import ConfigError
from adalora_core.config.rules.base import SOUND, SOUND_LORA


def test_byte_order_mark_is_legal_in_yaml_alone():
    text = example_text(SOUND).encode()
    found = {f: check_config(b"\xef\xbb\xbf" + text, format=f) for f in ("json", "yaml")}
    assert [d.code for d in found["json"].diagnostics] == ["ADA004"]
    assert found["yaml"].diagnostics == ()


def test_ranks_beside_which_a_tool_sets_its_own_are_not_called_missing():
    fields = {key: value for key, value in SOUND.items() if key not in {"init_r", "target_r"}}
    assert {d.code for d in check_config(fields).diagnostics} == {"ADA306"}
    codes = {d.code for d in check_config(fields | {"adalora_init_r": 12}).diagnostics}
    assert "ADA306" not in codes


def test_configuration_of_lora_is_judged_as_one_and_is_not_typed():
    report = check_config(SOUND_LORA)
    assert (report.diagnostics, report.ok, report.config) == ((), True, None)
    with pytest.raises(ConfigError, match="got one of LoRA; check_config judges it"):
        validate_config(SOUND_LORA)
    both = {"one": SOUND_LORA, "two": SOUND}
    assert validate_config(both).init_r == SOUND["init_r"]
    assert [d.code for d in check_config(SOUND_LORA | {"r": 0}).errors] == ["ADA103"]
    (mixed,) = check_config({"peft_type": "LORA", "init_r": 8}).errors
    assert "use the class AdaLoraConfig" in mixed.message


TARGETS = {
    '"lm_head"': ("ADA504", "warning"),
    '"q_proj"': ("ADA504", "error"),
    '"all"': ("ADA504", "error"),
    '"auto"': ("ADA504", "error"),
    '"(q|v)$"': ("ADA508", "error"),
    '"lm_head|score"': (None, None),
    '".*(q|v)_proj"': (None, None),
    '".*q_proj, .*v_proj"': ("ADA508", "error"),
    '".*my_own"': ("ADA508", "warning"),
    '"model.layers.0.self_attn.q_proj"': (None, None),
    '"model.layers.0"': ("ADA509", "error"),
    '".*"': ("ADA509", "error"),
    "\"['q_proj']\"": ("ADA505", "error"),
    '["q_proj ", "v_proj"]': ("ADA507", "warning"),
    '["q_proj "]': ("ADA507", "error"),
    '["q_proj,v_proj"]': ("ADA507", "error"),
    '["*"]': ("ADA506", "error"),
    '[".*q_proj", "v_proj"]': ("ADA506", "warning"),
    '["self_attn", "v_proj"]': ("ADA509", "warning"),
    '["self_attn"]': ("ADA509", "error"),
    '["0"]': (None, None),
    '["q_porj", "v_proj"]': ("ADA510", "warning"),
    '["my_own", "v_proj"]': ("ADA510", "info"),
    '["my_own"]': ("ADA510", "warning"),
}


@pytest.mark.parametrize("written", TARGETS)
def test_targets_are_an_error_where_no_module_can_be_adapted(written):
    report = check_config(SOUND | {"target_modules": json.loads(written)})
    code, severity = TARGETS[written]
    expected = {(code, severity)} if code else set()
    assert {(d.code, d.severity) for d in report.diagnostics} == expected


@pytest.mark.parametrize(
    ("base", "targets", "is_wrong"),
    [
        ("gpt2", ["q_proj", "v_proj"], True),
        ("openai-community/gpt2", ["self_attn.q_proj"], True),
        ("gpt2", ["c_attn", "q_proj"], False),
        ("gpt2", "all-linear", False),
        ("google-bert/bert-base-uncased", ["q_proj"], True),
        ("google-bert/bert-base-uncased", ["query", "value"], False),
        ("google/flan-t5-base", ["wi_0"], False),
        ("google/vit-base-patch16-224-in21k", ["query", "value"], False),
        ("mistralai/Mistral-7B-v0.1", ["query"], True),
        ("somebody/gpt2-of-my-own", ["q_proj"], False),
        ("./models/gpt2", ["q_proj"], False),
    ],
)
def test_targets_that_a_published_model_lacks_are_an_error(base, targets, is_wrong):
    fields = {"base_model_name_or_path": base, "target_modules": targets}
    for runtime in ("peft", "adalora-core"):
        codes = {d.code for d in check_config(SOUND | fields, runtime=runtime).errors}
        assert codes == ({"ADA513"} if is_wrong else set())


LEFT = [
    ({"exclude_modules": ["q_proj"]}, False),
    ({"exclude_modules": ["q_proj", "v_proj"]}, True),
    ({"exclude_modules": ".*"}, True),
    ({"exclude_modules": r".*\.0\..*"}, False),
    ({"modules_to_save": ["q_proj"]}, False),
    ({"modules_to_save": ["v_proj", "nope"]}, False),
    ({"modules_to_save": ["v_proj", "q_proj"]}, True),
    ({"target_modules": ["score"], "task_type": "SEQ_CLS"}, True),
    ({"target_modules": ["self_attn.q_proj"], "modules_to_save": ["self_attn"]}, True),
    ({"target_modules": ".*q_proj", "exclude_modules": ".*q_proj"}, True),
    ({"target_modules": "all-linear", "exclude_modules": ".*"}, True),
    ({"target_modules": "all-linear", "exclude_modules": ["lm_head"]}, False),
]


@pytest.mark.parametrize(("fields", "is_empty"), LEFT)
def test_configuration_without_a_target_left_is_an_error_and_left_to_our_model(fields, is_empty):
    codes = {d.code for d in check_config(SOUND | fields).errors}
    assert codes == ({"ADA511"} if is_empty else set())
    assert check_config(SOUND | fields, runtime="adalora-core").ok


@pytest.mark.parametrize(
    ("targets", "saved", "severity"),
    [
        (["q_proj", "v_proj"], ["q_proj"], "warning"),
        (["q_proj", "mlp.up"], ["mlp"], "warning"),
        (["q_proj", "v_proj"], ["_proj"], "error"),
        (["q_proj", "my_mlp.up"], ["mlp"], "error"),
        (["q_proj", "pre_classifier"], "SEQ_CLS", "error"),
        (["q_proj", "_proj"], ["my_proj"], None),
        (["q_proj", "norm.up"], ["nor"], None),
    ],
)
def test_target_that_is_copied_is_an_error_where_peft_adapts_it_before(targets, saved, severity):
    fields = {"task_type": saved} if isinstance(saved, str) else {"modules_to_save": saved}
    for runtime in ("peft", "adalora-core"):
        report = check_config(SOUND | {"target_modules": targets} | fields, runtime=runtime)
        found = {d.severity for d in report.diagnostics if d.code == "ADA420"}
        expected = "warning" if severity and runtime != "peft" else severity
        assert found == ({expected} if severity else set())
        assert report.ok == (expected != "error")


@pytest.mark.parametrize(
    ("layers", "targets", "severity"),
    [
        (-1, ["q_proj"], "error"),
        ([-2, -1], ["q_proj"], "error"),
        ([0, -1], ["q_proj"], "warning"),
        (-1, ["lm_head"], "warning"),
        ([0], ["q_proj"], None),
    ],
)
def test_negative_layer_is_an_error_if_no_other_layer_is_named(layers, targets, severity):
    report = check_config(SOUND | {"layers_to_transform": layers, "target_modules": targets})
    found = {d.severity for d in report.diagnostics if d.code == "ADA512"}
    assert found == ({severity} if severity else set())


REFUSED = [
    ({"eva_config": {"rho": 0.5}}, "/eva_config/rho"),
    ({"eva_config": {"rho": None}}, "/eva_config/rho"),
    ({"eva_config": {"rho": 1, "tau": 1}}, None),
    ({"eva_config": {"unknown": 1}}, None),
    ({"monteclora_config": {"unknown": 1}}, "/monteclora_config"),
    ({"monteclora_config": {"num_samples": 0}}, "/monteclora_config/num_samples"),
    ({"velora_config": {"init_type": "x"}}, "/velora_config/init_type"),
    ({"kasa_config": {"beta": 0}}, None),
    ({"arrow_config": {"top_k": 0}}, "/arrow_config/top_k"),
    (
        {"use_bdlora": {"target_modules_bd_a": ["a"], "target_modules_bd_b": ["a"]}},
        "/use_bdlora/target_modules_bd_b",
    ),
    ({"use_bdlora": {"target_modules_bd_a": 3}}, "/use_bdlora/target_modules_bd_a"),
]


@pytest.mark.parametrize(("fields", "pointer"), REFUSED)
def test_sub_configuration_is_judged_as_the_class_that_peft_builds_does(fields, pointer):
    (found,) = check_config(SOUND | fields).diagnostics
    expected = ("ADA424", "error") if pointer else ("ADA405", "warning")
    assert (found.code, found.severity) == expected
    if pointer and "unknown" not in str(fields):
        assert found.pointer == pointer
    (ours,) = check_config(SOUND | fields, runtime="adalora-core").diagnostics
    assert ours.code == "ADA405"


KEYS = [
    ({"alpha_pattern": {"(": 1}}, {"peft", "adalora-core"}),
    ({"alpha_pattern": {"layers.0": 1}}, set()),
    ({"alpha_pattern": {"(": 1}, "inference_mode": True}, {"peft"}),
    ({"modules_to_save": ["("]}, {"peft"}),
    ({"modules_to_save": ["*"]}, set()),
    ({"layers_to_transform": [0], "layers_pattern": "(?P<idx>a)"}, {"peft", "adalora-core"}),
    ({"layers_to_transform": [], "layers_pattern": "("}, set()),
    ({"layers_to_transform": [], "layers_pattern": 3}, set()),
]


@pytest.mark.parametrize(("fields", "failing"), KEYS)
def test_names_that_are_put_into_expressions_are_judged_inside_them(fields, failing):
    for runtime in ("peft", "adalora-core"):
        codes = {d.code for d in check_config(SOUND | fields, runtime=runtime).errors}
        assert codes == ({"ADA501"} if runtime in failing else set())


@pytest.mark.parametrize(
    ("tokens", "saved", "is_refused"),
    [
        ({"embed_tokens": [1]}, ["embed_tokens"], True),
        ({"model.embed_tokens": [1]}, ["embed_tokens"], True),
        ({"embed_tokens": [1]}, ["tokens"], True),
        ({"tokens": [1]}, ["model.embed_tokens"], True),
        ([1], ["tokens"], True),
        ({"embed_tokens": [1]}, ["lm_head"], False),
        ([1], ["wte"], True),
        ([1], ["lm_head"], False),
        ({"": [1]}, [], True),
    ],
)
def test_rows_of_an_embedding_that_is_trained_in_full_are_an_error(tokens, saved, is_refused):
    fields = {"trainable_token_indices": tokens, "modules_to_save": saved}
    for runtime in ("peft", "adalora-core"):
        codes = {d.code for d in check_config(SOUND | fields, runtime=runtime).errors}
        assert codes == ({"ADA423"} if is_refused else set())
    nothing = check_config(SOUND | {"trainable_token_indices": []}, runtime="adalora-core")
    assert nothing.ok  # our own models refuse what is there, and ignore an empty list


@pytest.mark.parametrize(("task", "is_error"), [("SEQ_CLS", True), ("CAUSAL_LM", False)])
def test_empty_text_in_modules_to_save_fails_where_peft_adds_the_heads_to_it(task, is_error):
    report = check_config(SOUND | {"modules_to_save": "", "task_type": task})
    assert report.ok != is_error


def test_empty_list_in_a_saved_rank_pattern_loads():
    kept = {"layers.0.q_proj.lora_E": [], "layers.0.v_proj.lora_E": [True] * 12}
    saved = SOUND | {"rank_pattern": kept, "inference_mode": True}
    assert check_config(saved).ok
    kept["layers.0.q_proj.lora_E"] = [True]
    assert not check_config(saved).ok


def test_fields_that_this_package_ignores_are_errors_where_another_run_was_meant():
    alone = {"layers_pattern": "layers"}
    for fields in (
        alone,
        {"target_parameters": ["mlp.weight"]},
        {"target_modules": ".*q_proj", "layers_to_transform": [0]},
    ):
        assert not check_config(SOUND | fields).ok
        assert check_config(SOUND | fields, runtime="adalora-core").ok == (fields is alone)
        saved = SOUND | fields | {"inference_mode": True}
        assert check_config(saved, runtime="adalora-core").ok


Q, V = "layers.0.q_proj.lora_E", "layers.0.v_proj.lora_E"
FULL = [True] * 12
PATTERNS = [
    ({"rank_pattern": {Q: FULL, V: FULL}}, {}),
    ({"rank_pattern": {"layers.0.k_proj.lora_E": FULL}}, {"peft": "ADA312"}),
    ({"rank_pattern": {Q: FULL}, "exclude_modules": ["q_proj"]}, {"peft": "ADA312"}),
    ({"rank_pattern": {Q: FULL}, "layers_to_transform": [1]}, {"peft": "ADA312"}),
    ({"rank_pattern": {Q: FULL}, "target_modules": r".*[.]v_proj"}, {"peft": "ADA312"}),
    ({"rank_pattern": {Q: FULL}, "target_modules": "all-linear"}, {}),
    (
        {"rank_pattern": {f"base_model.model.{Q}": FULL}},
        {"peft": "ADA312", "adalora-core": "ADA312"},
    ),
    ({"rank_pattern": {f"{Q}.default": FULL}}, {}),
    ({"rank_pattern": {Q: FULL[1:]}}, {"peft": "ADA304"}),
    ({"rank_pattern": {Q.replace("lora_E", "lora_A"): FULL}}, {"adalora-core": "ADA309"}),
    (
        {"rank_pattern": {Q.removesuffix(".lora_E"): FULL}},
        {"peft": "ADA309", "adalora-core": "ADA309"},
    ),
]


@pytest.mark.parametrize(("fields", "failing"), PATTERNS)
def test_rank_pattern_is_an_error_in_a_saved_adapter_that_cannot_be_loaded(fields, failing):
    for runtime in ("peft", "adalora-core"):
        saved = SOUND | {"inference_mode": True} | fields
        codes = {d.code for d in check_config(saved, runtime=runtime).errors}
        assert codes == ({failing[runtime]} if runtime in failing else set())
        assert check_config(saved | {"inference_mode": False}, runtime=runtime).ok


@pytest.mark.parametrize("value", [float("nan"), 0, -1.5])
def test_alpha_that_is_not_positive_is_named_as_it_is_written(value):
    report = check_config(SOUND | {"lora_alpha": value})
    (finding,) = [each for each in report.diagnostics if each.code == "ADA406"]
    assert finding.message.endswith("got NaN" if math.isnan(value) else f"got {value}")


def test_hint_on_a_number_out_of_range_gives_a_value_that_is_right():
    hints = {each.code: each.hint for each in check_config(SOUND | {"beta1": 2}).diagnostics}
    hint = "set beta1 to a number above 0 and below 1, or remove it: the default is 0.85"
    assert hints == {"ADA103": hint}


def test_hint_names_the_option_that_accepts_files_of_other_methods():
    (finding,) = inspect("r: 8\nlora_alpha: 16\n", "yaml").report.diagnostics
    assert finding.code == "ADA006"
    assert "--ignore-unmatched" in finding.hint


def test_a_name_in_modules_to_save_is_an_expression_to_peft_alone():
    fields = SOUND | {"target_modules": ["q_proj", "v_proj"], "modules_to_save": ["[qv]_proj"]}
    found = check_config(fields).diagnostics
    assert "no target is left: each is excluded or trained in full" in {d.message for d in found}
    ours = check_config(fields, runtime="adalora-core").diagnostics
    assert not any("no target is left" in d.message for d in ours)
