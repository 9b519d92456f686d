"""Fixes change what they promise and nothing else, and they remove every fixable finding."""

from __future__ import annotations

import copy
import json
import re

import pytest
from contract_configs import SOUND
from contract_fixes import KEYS, PARSERS, fix, written
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adalora_core.checker.check import check_config
from adalora_core.checker.documents.document import FORMATS
from adalora_core.checker.pipeline.fixing import apply_edits, without_overlaps
from adalora_core.checker.rules import BY_CODE, RULES, example_text
from adalora_core.config.findings import Diagnostic, Fix, Insert, Put, Rename
from adalora_core.floor.places import Edit, Span

COMMENT = re.compile(r"#[^\r\n]*")


def _names(report):
    return {(d.code, d.pointer) for d in report.diagnostics}


def _fixable(report):
    return [d for d in report.diagnostics if d.fix is not None]


def _replayed(document, fixed):
    """Make the changes that the report names, one by one, in the simplest way."""
    document = copy.deepcopy(document)
    for diagnostic in fixed:
        for change in diagnostic.fix.changes:
            *above, last = change.path
            node = document
            for step in above:
                node = node[step]
            if isinstance(change, Rename):
                assert change.name not in node
                node[change.name] = node.pop(last)
            else:
                places = node if isinstance(node, dict) else range(len(node))
                assert (last in places) == isinstance(change, Put)
                node[last] = change.value
    return document


def test_the_rank_that_a_misspelt_key_holds_is_kept():
    text = "peft_type: ADALORA\ntarget_modules: [q_proj]\nr: 16\ninitial_r: 12\ntarget_r: 8\n"
    fixed = fix(text + "total_step: 1000\n", "yaml", unsafe=True)
    assert "\ninit_r: 12\n" in fixed.document.text
    assert "init_r: 16" not in fixed.document.text


def _exactly(node):
    """Return a text that distinguishes 1, 1.0 and True, and ignores the order of keys."""
    if isinstance(node, dict):
        return sorted((repr(key), _exactly(value)) for key, value in node.items())
    return [_exactly(entry) for entry in node] if isinstance(node, list) else repr(node)


@pytest.mark.slow
@pytest.mark.parametrize("format_", FORMATS)
@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), unsafe=st.booleans())
def test_fixing_any_file_changes_only_what_the_report_names_and_is_done_once(format_, data, unsafe):
    raw = data.draw(written(format_))
    done = fix(raw, format_, unsafe=unsafe, key=KEYS[format_])
    old, new = raw.decode("utf-8-sig"), done.document.raw.decode("utf-8-sig")
    parse = PARSERS[format_]
    if not done.report.fixed:
        assert done.document.raw == raw
        return

    # The document: the named changes, and no key removed.
    assert _exactly(parse(new)) == _exactly(_replayed(parse(old), done.report.fixed))
    # The text: comments, line ends, byte order mark and last line stay.
    if format_ != "json":
        assert COMMENT.findall(new) == COMMENT.findall(old)
    lines = sum(isinstance(c, Insert) for d in done.report.fixed for c in d.fix.changes)
    assert new.count("\n") == old.count("\n") + lines
    assert new.count("\r\n") == (new.count("\n") if "\r\n" in old else 0)
    assert new.endswith("\n") == old.endswith("\n")
    assert done.document.raw.startswith(b"\xef\xbb\xbf") == raw.startswith(b"\xef\xbb\xbf")
    # The rules: their pages name the fixes.
    for diagnostic in (*done.report.fixed, *_fixable(done.report)):
        rule = BY_CODE[diagnostic.code]
        assert rule.safe_fix if diagnostic.fix.is_safe else rule.unsafe_fix
    # The result: no fixable finding is left, unless it has a reason.
    assert all(d.fix.obstacle or not (d.fix.is_safe or unsafe) for d in _fixable(done.report))
    again = fix(done.document.raw, format_, unsafe=unsafe, key=KEYS[format_])
    assert again.document.raw == done.document.raw
    assert again.report.fixed == ()


def _other_formats(example):
    """Yield an example of JSON in every format that can hold it."""
    yield "json", example_text(example)
    yield "yaml", "".join(f"{key}: {json.dumps(value)}\n" for key, value in example.items())
    lines = [f"{key} = {json.dumps(value)}\n" for key, value in example.items()]
    if not any(isinstance(value, dict) for value in example.values()):
        yield "toml", "".join(lines)
    pairs = ", ".join(f"{key}={value!r}" for key, value in example.items())
    yield "python", f"from peft import AdaLoraConfig\nAdaLoraConfig({pairs})\n"


EXAMPLES = [
    (rule, format_, text)
    for rule in RULES
    for format_, text in (
        [(rule.language, rule.bad)] if isinstance(rule.bad, str) else _other_formats(rule.bad)
    )
    if rule.safe_fix or rule.unsafe_fix
    # A call has no peft_type: the class sets it.
    if format_ != "python" or rule.code not in {"ADA101", "ADA105"}
]


def test_fixed_bad_example_of_a_fixable_rule_loses_its_finding():
    for rule, format_, text in EXAMPLES:
        done = fix(text, format_)
        fixed = [d for d in done.report.fixed if d.code == rule.code]
        assert fixed, (rule.code, format_)
        assert all(rule.safe_fix if d.fix.is_safe else rule.unsafe_fix for d in fixed), rule.code
        assert not {(d.code, d.pointer) for d in fixed} & _names(done.report), rule.code


def test_rule_without_a_documented_fix_fixes_nothing():
    for rule in RULES:
        if rule.needs in {"run", "file", "worker"} or rule.example_options:
            continue
        if rule.safe_fix is None and rule.unsafe_fix is None:
            text = rule.bad if isinstance(rule.bad, str) else example_text(rule.bad)
            done = fix(text, rule.language)
            assert (done.document.raw, done.report.fixed) == (text.encode(), ()), rule.code


def _one(old, new, format_="json", *, unsafe=False):
    done = fix(old, format_, unsafe=unsafe)
    assert done.document.raw.decode() == new
    return done.report


def test_unsafe_fix_is_made_only_when_asked_for():
    text = json.dumps(SOUND | {"delta_t": 3}).replace('"deltaT": 10, ', "")
    report = _one(text, text)
    assert [(d.code, d.fix.obstacle) for d in _fixable(report)] == [("ADA104", None)]
    assert _one(text, text.replace("delta_t", "deltaT"), unsafe=True).diagnostics == ()


@pytest.mark.parametrize(
    ("fields", "fixed"),
    [
        ({"init_r": "12"}, {"init_r": 12}),
        ({"beta1": "0.5"}, {"beta1": 0.5}),
        ({"layers_to_transform": ["0", 1]}, {"layers_to_transform": [0, 1]}),
        ({"layers_to_transform": [0.0]}, {"layers_to_transform": [0]}),
        ({"use_rslora": 0}, {"use_rslora": False}),
        ({"task_type": "causal_lm"}, {"task_type": "CAUSAL_LM"}),
        ({"bias": "adalora_only"}, {"bias": "lora_only"}),
        ({"target_modules": "q_proj; v_proj"}, {"target_modules": ["q_proj", "v_proj"]}),
        ({"init_lora_weights": ""}, {"init_lora_weights": False}),
        ({"target_modules": ["All-linear"]}, {"target_modules": "all-linear"}),
        ({"target_modules": ["all-linear", "q"]}, {"target_modules": ["all-linear", "q"]}),
    ],
)
def test_safe_fix_writes_the_only_reading(fields, fixed):
    # Fixed findings stay away; the fixed values may have findings of their own.
    assert (
        json.loads(fix(json.dumps(SOUND | fields), "json", unsafe=False).document.text)
        == SOUND | fixed
    )


@pytest.mark.parametrize(
    ("fields", "fixed"),
    [
        ({"use_dora": "false"}, {"use_dora": False}),
        ({"layers_to_transform": "null"}, {"layers_to_transform": None}),
        ({"modules_to_save": "lm_head"}, {"modules_to_save": ["lm_head"]}),
        ({"bias": "al"}, {"bias": "all"}),
        ({"exclude_modules": "a,b"}, {"exclude_modules": ["a", "b"]}),
        ({"target_modules": "All_Linear"}, {"target_modules": "all-linear"}),
        ({"target_modules": ["a", r".*\.b$"]}, {"target_modules": ["a", "b"]}),
        ({"tinit": 100, "tfinal": 700}, {"tinit": 100, "tfinal": 300}),
        ({"init_r": 1, "target_r": 1}, {"init_r": 2, "target_r": 1}),
        ({"lora_alpha": 0}, {"lora_alpha": 12}),
    ],
)
def test_unsafe_fix_writes_what_was_probably_meant(fields, fixed):
    text = json.dumps(SOUND | fields)
    assert fix(text, "json", unsafe=False).document.text == text
    assert json.loads(fix(text, "json").document.text) == SOUND | fixed


@pytest.mark.parametrize(
    "fields",
    [
        {"total_step": "many"},  # not a number
        {"init_r": "12.5"},  # not an integer
        {"beta1": "2"},  # out of range, so that it would be the next error
        {"init_r": True},
        {"use_dora": 2},
        {"layers_to_transform": [0, "null"]},  # null fits the field, not the list
        {"lora_alpha": "9" * 30},
    ],
)
def test_value_without_one_plain_reading_has_no_fix(fields):
    text = json.dumps(SOUND | fields)
    assert fix(text, "json").document.text == text


def test_rename_to_an_existing_key_is_not_offered():
    text = json.dumps(SOUND | {"delta_t": 3})
    assert _fixable(_one(text, text, unsafe=True)) == []


def test_two_misspellings_of_one_key_are_renamed_once_and_the_other_is_left():
    text = json.dumps({k: v for k, v in SOUND.items() if k != "deltaT"} | {"delta_t": 3, "dt": 1})
    text = text.replace('"dt"', '"delta-t"')
    report = _one(text, text.replace("delta_t", "deltaT"), unsafe=True)
    assert [(d.code, d.hint) for d in report.diagnostics] == [
        ("ADA104", "remove `delta-t`: `deltaT` is set too")
    ]


def test_key_of_the_tools_own_is_not_renamed_and_a_prefixed_one_keeps_its_prefix():
    flat = {"lora_type": "adalora", "rank": 8} | {k: v for k, v in SOUND.items() if "type" not in k}
    text = json.dumps(flat)
    _one(text, text, unsafe=True)
    prefixed = {f"adalora_{key}": value for key, value in SOUND.items() if key[0] != "t"} | {
        "adalora_total_step": 1000, "adalora_t_init": 3, "adalora_tfinal": 200}  # fmt: skip
    text = json.dumps(prefixed)
    assert '"adalora_tinit": 3' in fix(text, "json").document.text


COMMENTED = (
    "- all-linear # c",
    "# c\n- all-linear",
    "- # c\n  all-linear",
    "  [ # c\n  all-linear]",
)
"""Lists that cannot be written as a string without losing a comment."""

YAML = "".join(f"{key}: {json.dumps(value)}\n" for key, value in SOUND.items())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("init_r: &r 12.0  # c", "init_r: &r 12  # c"),
        ("init_r: 12.0\nrevision: '12.0'", "init_r: 12\nrevision: '12.0'"),
        ("'init_r': \"12\"", "'init_r': 12"),
        ("? init_r\n: 12.0", "? init_r\n: 12"),
        ("init_r: |\n  12", "init_r: 12"),
        ("init_r:\n  12.0", "init_r:\n  12"),
        (
            "init_r: 12\ntarget_modules: # b\n  - all-linear",
            "init_r: 12\ntarget_modules: # b\n  all-linear",
        ),
        *[(f"init_r: 12\ntarget_modules:\n{entries}",) * 2 for entries in COMMENTED],
    ],
)
def test_yaml_around_a_fixed_value_stays(old, new):
    rest = YAML.replace("init_r: 12\n", "")
    if "target_modules" in old:
        rest = rest.replace('target_modules: ["q_proj", "v_proj"]\n', "")
    _one(f"{old}\n{rest}", f"{new}\n{rest}", "yaml")


def test_value_that_others_read_through_a_merge_is_left_with_the_reason():
    text = "base: &b {init_r: 12.0, x: 1}\npeft:\n  <<: *b\n" + "".join(
        f"  {line}\n" for line in YAML.replace("init_r: 12\n", "").splitlines()
    )
    text = text.replace("target_r: 8", "target_r: 8.0")
    before = check_config(text, format="yaml", key="/peft")
    integral = [d for d in before.diagnostics if d.code == "ADA106"]
    assert {d.pointer: bool(d.fix.obstacle) for d in integral} == {
        "/peft/init_r": True,
        "/peft/target_r": False,
    }
    report = _one(text, text.replace("target_r: 8.0", "target_r: 8"), "yaml")
    (left,) = [d for d in report.diagnostics if d.code == "ADA106"]
    assert left.pointer == "/peft/init_r"
    assert "through an anchor or a merge" in left.fix.obstacle
    assert f"not fixed: {left.fix.obstacle}" in report.render("full")


def test_number_that_yaml_reads_as_a_string_is_fixed_where_a_merge_repeats_it():
    lines = [line for line in YAML.splitlines() if not line.startswith("total_step")]
    base = "base: &b\n" + "".join(f"  {line}\n" for line in [*lines, "orth_reg_weight: 1e-1"])
    text = f"{base}  total_step: 1000\nother:\n  <<: *b\n  total_step: 2000\n"
    report = _one(text, text.replace("1e-1", "1.0e-1"), "yaml")
    assert [(d.code, d.pointer) for d in report.fixed] == [
        ("ADA601", "/base/orth_reg_weight"),
        ("ADA601", "/other/orth_reg_weight"),
    ]


def test_number_that_an_alias_reads_elsewhere_is_not_announced_as_fixable():
    text = YAML.replace("init_r: 12\n", "init_r: &r 12.0\n") + "x: *r\n"
    (found,) = [d for d in check_config(text, format="yaml").diagnostics if d.fix]
    assert "through an anchor" in found.fix.obstacle
    alone = check_config(text.replace("x: *r\n", "x: 1 # *\n"), format="yaml")
    assert [d.fix.obstacle for d in alone.diagnostics if d.fix] == [None]


def test_mapping_that_an_alias_repeats_is_fixed_in_both_places():
    inner = YAML.replace("init_r: 12\n", "init_r: 12.0\n").replace("\n", "\n  ").rstrip()
    text = f"a: &a\n  {inner}\nb: *a\n"
    done = fix(text, "yaml")
    assert done.document.text == text.replace("12.0", "12")
    assert done.report.diagnostics == ()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("init_r = 12.0 # c", "init_r = 12 # c"),
        ("'init_r' = '12'", "'init_r' = 12"),
        ("peft_type = '''adalora'''", "peft_type = 'ADALORA'"),
        ('peft_type = "adalora"', 'peft_type = "ADALORA"'),
    ],
)
def test_toml_around_a_fixed_value_stays(old, new):
    key = old.split()[0].strip("'")
    rest = "".join(f"{k} = {json.dumps(v)}\n" for k, v in SOUND.items() if k != key)
    _one(f"[peft]\n{old}\n{rest}", f"[peft]\n{new}\n{rest}", "toml")


def test_rank_pattern_key_in_toml_is_quoted_when_renamed():
    lines = [f"{k} = {json.dumps(v)}\n" for k, v in SOUND.items()]
    text = "".join(lines) + "inference_mode = true\nrank_pattern.q_proj = [{}]\n".format(
        ", ".join(["true"] * 8 + ["false"] * 4)
    )
    report = _one(text, text.replace(".q_proj =", '."q_proj.lora_E" ='), "toml", unsafe=True)
    assert report.diagnostics == ()


@pytest.mark.parametrize(
    ("format_", "old", "new"),
    [
        ("json", '{"init_r": 8}', '{"peft_type": "ADALORA", "init_r": 8}'),
        ("json", '{\r\n\t"init_r": 8}', '{\r\n\t"peft_type": "ADALORA",\r\n\t"init_r": 8}'),
        ("yaml", "# c\ninit_r: 8\n", "# c\npeft_type: ADALORA\ninit_r: 8\n"),
        ("yaml", "{init_r: 8}", "{peft_type: ADALORA, init_r: 8}"),
        ("yaml", "init_r: 8", "peft_type: ADALORA\ninit_r: 8"),
        ("toml", "# c\r\ninit_r = 8\r\n", '# c\r\npeft_type = "ADALORA"\r\ninit_r = 8\r\n'),
    ],
)
def test_missing_peft_type_is_added_as_the_first_key_in_the_files_own_way(format_, old, new):
    assert fix(old, format_).document.text == new


@pytest.mark.parametrize(
    ("format_", "old", "new"),
    [
        ("yaml", "a:\n- init_r: 8\n  b: 1", "a:\n- peft_type: ADALORA\n  init_r: 8\n  b: 1"),
        ("yaml", "a: [{init_r: 8}]", "a: [{peft_type: ADALORA, init_r: 8}]"),
        ("yaml", "a: [{? init_r : 8}]", "a: [{? init_r : 8}]"),  # left as it is
        ("toml", "[[a]]\ninit_r = 8\n", '[[a]]\npeft_type = "ADALORA"\ninit_r = 8\n'),
        ("toml", "a = [{init_r = 8}]", 'a = [{peft_type = "ADALORA", init_r = 8}]'),
    ],
)
def test_missing_peft_type_of_a_block_inside_is_added_where_that_can_be_done(format_, old, new):
    assert fix(old, format_, key="/a/0").document.text == new


def _diagnostic(*edits, safe=True):
    spans = [Edit(Span(a, b, 1, a + 1, 1, b + 1), text) for a, b, text in edits]
    fix_ = Fix("d", tuple(spans), is_safe=safe)
    return Diagnostic("ADA104", "n", "error", "m", f"/{edits}", fix=fix_)


def test_edits_that_overlap_are_not_made_together_and_equal_ones_are():
    first, inside = _diagnostic((0, 5, "a"), (9, 9, "x")), _diagnostic((4, 6, "b"))
    touching, equal = _diagnostic((5, 6, "c")), _diagnostic((5, 6, "c"))
    same_place = _diagnostic((9, 9, "y"))
    chosen = without_overlaps([first, inside, touching, equal, same_place])
    assert chosen == [first, touching, equal]
    edits = {edit for d in chosen for edit in d.fix.edits}
    assert apply_edits("0123456789", edits) == "ac678x9"


@pytest.mark.parametrize(
    ("old", "new"), [("{'a': None}", "['a']"), ("{'a': None, 'b': 1}", "['a', 'b']")]
)
def test_list_in_the_place_of_a_dict_in_python_is_not_a_set(old, new):
    call = "from peft import AdaLoraConfig\nAdaLoraConfig(modules_to_save={})\n"
    done = fix(call.format(old), "python", unsafe=False)
    assert done.document.raw.decode() == call.format(new)
