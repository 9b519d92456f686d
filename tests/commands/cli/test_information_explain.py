"""Test `adalora explain`: errors as people paste them, and errors of others."""

from __future__ import annotations

import io

import pytest

from adalora_core.checker.rules import explained
from adalora_core.commands.cli import main

SCHEDULE = "ValueError: The supplied schedule values don't allow for a budgeting phase."
IN_A_BOX = """\
\x1b[31m╭─────────────── Traceback (most recent call last) ───────────────╮\x1b[0m
│ ❱ 513 │   │   if self.adapter_name not in next(iter(rank_pattern.keys())):  │
│ site-packages/peft/tuners/adalora/layer.py:513 in mask_using_rank_pattern   │
╰──────────────────────────────────────────────────────────────────────╯
\x1b[31mAttributeError: \x1b[0m'NoneType' object has no attribute 'keys'
"""
WRAPPED = """\
[rank0]: ValueError: The supplied schedule values
[rank0]:     don't allow for a budgeting phase.
"""
WARNED_BEFORE = f"""\
UserWarning: Note that `r` is not used in AdaLora and will be ignored.
{SCHEDULE}
"""


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (SCHEDULE, "ADA202"),
        ("ValueError: Please specify target_modules in peft_config", "ADA414"),
        (IN_A_BOX, "ADA808"),
        (WRAPPED, "ADA202"),
        (WARNED_BEFORE, "ADA202"),
        (WARNED_BEFORE.replace(SCHEDULE, "step 1 loss 0.5"), "ADA303"),
    ],
)
def test_error_as_it_is_pasted_names_its_rule_first(text, code):
    assert explained(text)[0].code == code


@pytest.mark.parametrize(
    "text",
    [
        "",
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
        "KeyError: 'labels'",
        "AttributeError: 'NoneType' object has no attribute 'keys'",
        "TypeError: Trainer.__init__() got an unexpected keyword argument 'tokenizer'",
        "TypeError: unsupported operand type(s) for -: 'NoneType' and 'int'",
        "NotImplementedError",
        "AttributeError: 'Linear' object has no attribute 'weight_scale'",
        "RuntimeError: size mismatch, got input (8), mat (8x16), vec (32)",
    ],
)
def test_error_of_others_is_not_known(text):
    assert explained(text) == []


def test_rule_and_advice_are_printed_for_words_and_for_standard_input(capsys, monkeypatch):
    assert main(["explain", *SCHEDULE.split()]) == 0
    out = capsys.readouterr().out
    assert out.startswith("ADA202 no-budgeting-phase: ")
    assert "what to do: decrease tinit or tfinal" in out
    assert out.endswith("'adalora rule ADA202' shows an example\n")
    log = b"step \xff\n" * 300_000 + f"{SCHEDULE}\n".encode()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(log)))
    assert main(["explain"]) == 0
    assert capsys.readouterr().out == out
    monkeypatch.setattr("sys.stdin", None)
    assert main(["explain"]) == 2
    assert capsys.readouterr().err == "adalora explain: standard input is closed\n"
    assert main(["explain", "KeyError"]) == 1
    assert capsys.readouterr().out.startswith("not known: ")
    with pytest.raises(SystemExit) as caught:
        main(["explain", "--no"])
    assert caught.value.code == 2
