"""Hold the findings on several adapters of a script against PEFT, which runs the script."""

from __future__ import annotations

import pytest
from toy_models import TwoLayer

from adalora_core.checker.check import check_config

SETUP = """\
from {package} import AdaLoraConfig, get_peft_model

first = AdaLoraConfig(target_modules=["first"], init_r=4, target_r=2, total_step=10)
second = AdaLoraConfig(target_modules=["first"], init_r=4, target_r=2, total_step=10)
frozen = AdaLoraConfig(
    target_modules=["first"], init_r=4, target_r=2, total_step=10, inference_mode=True
)
base = load_model()
"""
SECOND = ("ADA925", "ValueError: AdaLoraModel supports only 1 trainable adapter")
WEIGHTED = ("ADA925", "TypeError: AdaLoraModel does not support add_weighted_adapter method.")
WRAP = "model = get_peft_model(base, first)\n"
ADD = "model.add_adapter('b', second)"
WEIGH = "add_weighted_adapter(['default'], [1.0], 'joined')"
SCRIPTS = {
    "a second one": (WRAP + ADD, SECOND),
    "the same configuration": (WRAP + "model.add_adapter('b', first)", SECOND),
    "a third one": (
        WRAP + "model.add_adapter('b', frozen)\nmodel.add_adapter('c', peft_config=second)",
        SECOND,
    ),
    "a second wrap": (WRAP + "model = get_peft_model(model, second, 'b')", SECOND),
    "a second wrap of the base": (
        WRAP + "model = get_peft_model(base, second, adapter_name='b')",
        SECOND,
    ),
    "a frozen one": (WRAP + "model.add_adapter('b', frozen)", None),
    "beside a frozen one": (WRAP.replace("first", "frozen") + ADD, None),
    "beside one that is frozen later": (
        WRAP + "model.peft_config['default'].inference_mode = True\n" + ADD,
        None,
    ),
    "in place of the first": (WRAP + "model.delete_adapter('default')\n" + ADD, None),
    "of another model": (WRAP + "other = get_peft_model(load_model(), second, 'b')", None),
    "in the other branch": (
        f"if base:\n    {WRAP}else:\n    model = get_peft_model(base, second, 'b')",
        None,
    ),
    "weighted": (f"{WRAP}model.{WEIGH}", WEIGHTED),
    "weighted by the tuner": (f"{WRAP}model.base_model.{WEIGH}", WEIGHTED),
    "weighted adapters of LoRA": (
        "from peft import LoraConfig\n"
        + WRAP.replace("first", "LoraConfig(r=2, target_modules=['first'])")
        + f"model.{WEIGH}",
        None,
    ),
}


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`", "ignore:You are trying to modi")
@pytest.mark.parametrize("case", SCRIPTS)
def test_script_has_the_finding_exactly_if_peft_raises(case: str) -> None:
    body, expected = SCRIPTS[case]
    code = SETUP.format(package="peft") + body + "\n"
    raised = None
    try:
        exec(compile(code, case, "exec"), {"load_model": TwoLayer})  # noqa: S102 - a script
    except (TypeError, ValueError) as error:
        raised = f"{type(error).__name__}: {error}"
    found = check_config(code, format="python").diagnostics
    by_rule = [each for each in found if each.code in {"ADA914", "ADA925"}]
    if expected is None:
        assert raised is None
        assert not by_rule
        return
    assert raised is not None
    assert raised.startswith(expected[1])
    (diagnostic,) = by_rule
    assert diagnostic.code == ("ADA914" if body.count("get_peft_model") > 1 else expected[0])
    assert diagnostic.span is not None
    assert diagnostic.span.start_line == code.count("\n")


@pytest.mark.parametrize(
    ("package", "expected"), [("adalora_core.peft", {"ADA925"}), ("adalora_core", set())]
)
def test_several_adapters_are_right_in_our_models_alone(package: str, expected: set[str]) -> None:
    body = SCRIPTS["a second one"][0] + "\nmodel.add_weighted_adapter(['default', 'b'], [1, 1])\n"
    found = check_config(SETUP.format(package=package) + body, format="python").diagnostics
    assert {each.code for each in found} & {"ADA914", "ADA925"} == expected
