"""Calls of the class in a script are judged, placed, suppressed and fixed as files are."""

from __future__ import annotations

import ast
import importlib
import json
import sys
from pathlib import Path

import pytest
from contract_fixes import fix, inspect

from adalora_core.checker.check import check_config, validate_config
from adalora_core.checker.pipeline import CheckOptions
from adalora_core.checker.pipeline.inspection import Inspector
from adalora_core.checker.pipeline.suppression import Selection
from adalora_core.checker.rules import RULES
from adalora_core.checker.rules.usage_base import CodeFault
from adalora_core.config.fields.table import says_lora
from adalora_core.config.findings import ConfigError, Remedy, Replace
from adalora_core.config.rules.base import SOUND, Rule

CORPUS = Path(__file__).parent / "corpus"
OF_THE_CLASS = {"ADA101", "ADA105", "ADA308", "ADA422"}
"""Rules on peft_type, which the class sets itself, on adapters that a run has saved, and on models
that PEFT does not make."""

HEAD = "from peft import AdaLoraConfig, LoraConfig, TaskType\n"
ENOUGH = "target_r=8, target_modules=['q_proj'], tfinal=200, total_step=1000"


def _class_of(values):
    return "LoraConfig" if says_lora(values) else "AdaLoraConfig"


def _with_keywords(values):
    arguments = ", ".join(f"{key}={value!r}" for key, value in values.items())
    return f"{HEAD}{_class_of(values)}({arguments})\n"


def _with_dict(values):
    return f"{HEAD}settings = {values!r}\nconfig = {_class_of(values)}(**settings)\n"


def _configurations():
    for rule in RULES:
        for example in (rule.bad, rule.good):
            if isinstance(example, dict) and "key" not in rule.example_options:
                yield rule.code, example, rule.example_options
    for path in sorted(CORPUS.glob("*.json")):
        values = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(values, dict) and values.get("peft_type") == "ADALORA":
            yield path.stem, values, {}


CONFIGURATIONS = list(_configurations())


def _found(report):
    places = {place for place in report.places if "Config" in place}
    top = places.pop() if places else ""
    return sorted((d.code, d.pointer.removeprefix(top)) for d in report.diagnostics)


@pytest.mark.parametrize("write", [_with_keywords, _with_dict])
def test_call_has_the_findings_of_the_same_file(write):
    differ = {}
    for name, values, options in CONFIGURATIONS:
        of_file = check_config(json.dumps(values), **options)
        of_call = check_config(write(values).encode(), format="python", **options)
        expected = [each for each in _found(of_file) if each[0] not in OF_THE_CLASS]
        if _found(of_call) != expected:
            differ[name] = _found(of_call), expected
    assert differ == {}


def test_unknown_value_adds_no_finding():
    # Two settings that fail together: with one unknown, the other is judged alone.
    # ADA927 is of a variable what ADA303 is of a number.
    allowed = {"ADA405", "ADA407", "ADA201", "ADA927"}
    added = {}
    for name, values, options in CONFIGURATIONS:
        text = _with_keywords(values).encode()
        known = set(_found(check_config(text, format="python", **options)))
        for unknown in values.keys() - {"peft_type"}:
            text = _with_keywords({k: v for k, v in values.items() if k != unknown})
            text = text.replace("Config(", f"Config({unknown}=read(), ")
            found = set(_found(check_config(text.encode(), format="python", **options)))
            if {code for code, _ in found - known} - allowed:
                added[name, unknown] = found - known
    assert added == {}


def _report(code):
    return inspect(code, "python").report


def _places(code):
    return [(d.code, d.span.start_line, d.span.start_column) for d in _report(code).diagnostics]


def test_places_count_characters_of_the_source():
    code = f"{HEAD}R = '8'\nc = AdaLoraConfig(  # é 😀\n    bias='é', init_r=R, {ENOUGH},\n)\n"
    assert _places(code) == [("ADA107", 4, 10), ("ADA102", 4, 22)]
    settings = f"{HEAD}s = dict(\n  init_r='8')\nAdaLoraConfig(**s, {ENOUGH})\n"
    assert _places(settings) == [("ADA102", 3, 10)]
    assert _places(f"{HEAD}AdaLoraConfig(init_r=12, target_r=8)") == [
        ("ADA201", 2, 1),
        ("ADA414", 2, 1),
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_as_python_ends_them(end):
    code = f"x = '\u2028\f'{end}\f{end}AdaLoraConfig(init_r='8', {ENOUGH}){end}"
    assert _places(code) == [("ADA102", 3, 22)]


def test_unknown_and_repeated_arguments_are_errors():
    report = _report(
        f"{HEAD}s = {{'r': 8}}\nAdaLoraConfig(lora_rnk=x, init_r=12, r=8, {ENOUGH}, **s)"
    )
    errors = [(d.code, d.span.start_line) for d in report.errors]
    assert errors == [("ADA002", 2), ("ADA104", 3)]
    assert "raises TypeError" in report.errors[1].message
    assert report.errors[0].related[0].span.start_line == 3


def test_hint_names_the_words_of_python():
    report = _report(f"{HEAD}AdaLoraConfig(init_r=12, use_dora='none', {ENOUGH})")
    assert [d.hint for d in report.diagnostics if d.code == "ADA102"] == [
        "write true or false, or remove it: the default is False"
    ]


def test_argument_that_a_change_may_remove_is_not_judged():
    code = f"{HEAD}s = {{'init_r': 12, 'own': 1}}\ns.pop('own')\nAdaLoraConfig(**s, {ENOUGH})"
    assert _report(code).diagnostics == ()
    code = f"{HEAD}s = {{'init_r': 9}}\ns.pop('init_r')\nAdaLoraConfig(init_r=12, **s, {ENOUGH})"
    assert _report(code).diagnostics == ()


@pytest.mark.parametrize(
    ("ranks", "is_found"),
    [("r=8", True), ("r=8, init_r=12", False), ("r=8, init_r=read()", False), ("r=read()", False)],
)
def test_default_of_lora_s_rank_is_reported_where_code_gives_no_other(ranks, is_found):
    report = _report(f"{HEAD}config = AdaLoraConfig({ranks}, {ENOUGH})\n")
    found = [d.message for d in report.diagnostics if d.code == "ADA303"]
    assert ["r is 8, the run starts at init_r 12" in each for each in found] == [True] * is_found


def test_total_step_that_is_assigned_after_the_call_comes_too_late():
    code = f"{HEAD}c = AdaLoraConfig(init_r=12, target_r=8, target_modules=['q_proj'])\n"
    assert _places(f"{code}c.total_step = 1000\nc.tfinal = 200\n") == [("ADA201", 2, 5)]


def test_runtime_of_a_call_is_that_of_its_class():
    theirs = f"{HEAD}AdaLoraConfig(init_r=8, {ENOUGH})"
    ours = theirs.replace("from peft", "from adalora_core")
    assert [d.severity for d in _report(theirs).diagnostics if d.code == "ADA302"] == ["error"]
    assert [d for d in _report(ours).diagnostics if d.code == "ADA302"] == []


def test_comments_suppress_in_code_and_strings_do_not():
    call = f"AdaLoraConfig(init_r=12.0,  # adalora: ignore[ADA106]\n  {ENOUGH})\n"
    report = _report(HEAD + call)
    assert (report.diagnostics, len(report.suppressed)) == ((), 1)
    inside = (
        HEAD
        + call.replace("  # adalora: ignore[ADA106]", "")
        + "'''\n# adalora: ignore-file[ADA106]\n'''"
    )
    assert [d.code for d in _report(inside).diagnostics] == ["ADA106"]
    unused = _report(f"{HEAD}AdaLoraConfig(init_r=12, {ENOUGH})  # adalora: ignore[ADA106]\n")
    assert [d.code for d in unused.diagnostics] == ["ADA011"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("AdaLoraConfig(init_r='12')", "AdaLoraConfig(init_r=12)"),
        ("AdaLoraConfig(init_r=(12.0))  # 12.0", "AdaLoraConfig(init_r=(12))  # 12.0"),
        ("AdaLoraConfig(task_type='causal_lm')", "AdaLoraConfig(task_type='CAUSAL_LM')"),
        ('AdaLoraConfig(task_type="causal_lm")', 'AdaLoraConfig(task_type="CAUSAL_LM")'),
        ("AdaLoraConfig(lora_rank=x)", "AdaLoraConfig(init_r=x)"),
        ("s = {'delta_t': 3}\nAdaLoraConfig(**s)", "s = {'deltaT': 3}\nAdaLoraConfig(**s)"),
        ('s = {"delta_t": 3}\nAdaLoraConfig(**s)', 's = {"deltaT": 3}\nAdaLoraConfig(**s)'),
        ("s = dict(delta_t=3)\nAdaLoraConfig(**s)", "s = dict(deltaT=3)\nAdaLoraConfig(**s)"),
        ("AdaLoraConfig(r=16)", "AdaLoraConfig(init_r=16)"),
        ("AdaLoraConfig(use_rslora=0)", "AdaLoraConfig(use_rslora=False)"),
        ("AdaLoraConfig(target_modules='q, v')", "AdaLoraConfig(target_modules=['q', 'v'])"),
        ("AdaLoraConfig(layers_to_transform=[  # why\n  0.0])",
         "AdaLoraConfig(layers_to_transform=[  # why\n  0])"),
        # The value is not written here: no edit.
        ("R = 12.0\nAdaLoraConfig(init_r=R)", None),
        ("AdaLoraConfig(init_r=6.0 * 2)", None),
        # The comment inside would be lost: no edit.
        ("AdaLoraConfig(target_modules=['All-linear',  # why\n  ])", None),
    ],
)  # fmt: skip
def test_fix_edits_the_source_in_its_style(old, new):
    done = fix(HEAD + old + "\n", "python")
    assert done.document.raw.decode() == HEAD + (old if new is None else new) + "\n"


def test_dict_of_two_calls_is_reported_and_fixed_once():
    code = f"{HEAD}s = {{'init_r': '12'}}\n" + f"AdaLoraConfig(**s, {ENOUGH})\n" * 2
    assert _places(code) == [("ADA102", 2, 16)]
    assert fix(code, "python").document.raw.decode() == code.replace("'12'", "12")


def test_key_names_one_call():
    code = f"{HEAD}AdaLoraConfig(init_r='8', {ENOUGH})\nAdaLoraConfig(init_r=12.0, {ENOUGH})"
    for key, codes in ((None, ["ADA102", "ADA106"]), ("/AdaLoraConfig/1", ["ADA106"])):
        report = check_config(code.encode(), format="python", key=key)
        assert [d.code for d in report.diagnostics] == codes
    (missing,) = check_config(code.encode(), format="python", key="/AdaLoraConfig/2").diagnostics
    assert missing.code == "ADA006"


def test_configuration_of_a_script_is_that_of_one_whole_call(tmp_path):
    path = tmp_path / "train.py"
    whole = f"{HEAD}RANK = 12\nAdaLoraConfig(init_r=RANK, {ENOUGH})\n"
    path.write_text(whole)
    assert validate_config(path).init_r == 12
    for code in (whole.replace("RANK = 12", "RANK = read()"), whole + f"AdaLoraConfig({ENOUGH})\n"):
        path.write_text(code)
        with pytest.raises(ConfigError, match="one configuration whose values are all"):
            validate_config(path)


def test_nothing_is_imported_or_run(tmp_path):
    trace = tmp_path / "ran"
    (tmp_path / "trap.py").write_text(f"open({str(trace)!r}, 'w')")
    sys.path.insert(0, str(tmp_path))
    try:
        inspect(f"import trap\nopen({str(trace)!r}, 'w')\nAdaLoraConfig(init_r=exit(3))", "python")
    finally:
        sys.path.remove(str(tmp_path))
    assert not trace.exists()
    assert "trap" not in sys.modules


def _searched(text, format_="python"):
    inspector = Inspector(CheckOptions(), Selection.of(), format=format_)
    return inspector.inspect(text.encode(), "file.py", was_named=False)


def test_code_without_the_word_is_not_parsed(monkeypatch):
    parsed = []
    parse = ast.parse
    monkeypatch.setattr(ast, "parse", lambda code: parsed.append(code) or parse(code))
    assert _searched("import torch\nmodel.allocate(1)\n") is None
    assert parsed == []
    assert _searched("# AdaLoRA\n") is None
    assert len(parsed) == 1


@pytest.mark.parametrize(
    "code",
    [
        "# AdaLoRA {{ template }}\n",
        "from adalora_core import get_peft_model\n",
        "from mindnlp.peft import AdaLoraConfig\nAdaLoraConfig()\n",
    ],
)
def test_searched_code_without_a_call_is_passed_over(code):
    assert _searched(code) is None


def test_damaged_code_with_a_call_is_reported_where_it_breaks():
    found = _searched("# é\nAdaLoraConfig(init_r=12,,)\n")
    (diagnostic,) = found.report.diagnostics
    assert diagnostic.code == "ADA001"
    assert f"Python {sys.version_info.major}.{sys.version_info.minor}" in diagnostic.message
    assert (diagnostic.span.start_line, diagnostic.span.start_column) == (2, 25)


def test_named_code_is_checked_if_it_uses_names_of_adalora():
    assert _report("model.update_and_allocate(step)\n").was_checked
    assert [d.code for d in _report("import torch\n").diagnostics] == ["ADA006"]


class _Hook(Rule):
    code = "ADA106"
    name = "hook"
    severity = "warning"
    summary = why = hint = bad = "x"
    needs = "script"
    only_with = ()

    def check_usage(self, usage):
        script = usage.script
        for node in ast.walk(script.tree):
            if isinstance(node, ast.FunctionDef) and node.name == "on_step_end":
                start = script.extent(node)[0] + len("def ")
                change = Replace((start, start + len(node.name)), "on_optimizer_step")
                remedy = Remedy("Rename the hook", change)
                note = (node.body[0], "here")
                yield CodeFault(node, "the hook comes too late", note=note, remedy=remedy)


def test_rule_on_code_marks_and_edits_what_no_path_names(monkeypatch):
    rules = importlib.import_module("adalora_core.checker.rules")
    monkeypatch.setattr(rules, "_ON_SCRIPTS", {"ADALORA": (_Hook(),)})
    code = "def on_step_end():\n    model.update_and_allocate(1)\n"
    (diagnostic,) = _report(code).diagnostics
    assert (diagnostic.span.start_line, diagnostic.span.start_column) == (1, 1)
    assert diagnostic.related[0].span.start_column == 5
    done = fix(code, "python")
    assert done.document.raw.decode() == code.replace("on_step_end", "on_optimizer_step")
    suppressed = _report(code.replace("():", "():  # adalora: ignore[ADA106]"))
    assert (suppressed.diagnostics, len(suppressed.suppressed)) == ((), 1)


def test_examples_are_sound():
    assert _places(_with_keywords(SOUND)) == []
