"""Find penalties that a script adds to a loss which contains one, however they are written."""

from __future__ import annotations

import pytest
from usage_texts import codes

from adalora_core.checker.check import check_config
from adalora_core.checker.rules.usage_base import CALLBACK, HEAD, LOOP

ORTH = """\
def orth(model):
    total = 0.0
    for name, p in model.named_parameters():
        if "lora_A" in name:
            total = total + (p @ p.T - torch.eye(p.shape[0])).norm()
    return total
"""
HELPER = """\
def total_loss(model, batch):
    out = model(**batch)
    return out.loss + WEIGHT * orth(model)
"""
BY_HAND = """\
reg = 0
for name, p in model.named_parameters():
    if "lora_A" in name:
        reg += ((p @ p.T - torch.eye(p.shape[0])) ** 2).sum()
loss = model(**batch).loss + 0.1 * reg
"""
TRAINER = """\
from transformers import Trainer, TrainerCallback


class OrthTrainer(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False):
        LINES
        return (loss, outputs) if return_outputs else loss
"""


def _script(lines: str, *, before: str = "") -> str:
    body = "".join(f"    {line}\n" for line in f"{lines}\nloss.backward()".splitlines())
    return HEAD + before + LOOP.replace("    model(**batch).loss.backward()\n", body)


@pytest.mark.parametrize(
    ("text", "is_doubled"),
    [
        (_script("loss = model(**batch).loss + 0.1 * orth(model)"), True),
        (_script("loss = total_loss(model, batch)", before=HELPER.replace("WEIGHT", "0.5")), True),
        (_script("reg = 0.1 * orth(model)\nloss = model(**batch).loss + reg"), True),
        (_script("reg = orth(model)\nreg = reg * 0.1\nloss = model(**batch).loss + reg"), True),
        (_script(BY_HAND), True),
        (_script(BY_HAND.replace("p @ p.T - torch.eye(p.shape[0])", "p")), False),
        (_script("loss = model(**batch).loss + 0.1 * kl(model, batch)"), False),
        (_script("loss = model(**batch).loss + orthogonality(first, second)"), False),
        (_script("loss = cross_entropy(model(x).logits, y) + 0.1 * orth(model)"), False),
    ],
)
def test_penalty_of_a_loop_is_counted_twice_where_the_loss_is_of_the_outputs(text, is_doubled):
    assert ("ADA916" in codes(ORTH + text)) is is_doubled
    # Without a task PEFT calls the base model, whose loss has no penalty.
    assert "ADA916" not in codes(ORTH + text.replace('    task_type="CAUSAL_LM",\n', ""))
    without = text.replace("deltaT=10,", "deltaT=10, orth_reg_weight=0,")
    assert not codes(ORTH + without) & {"ADA703", "ADA916"}


@pytest.mark.parametrize(
    "lines",
    [
        "outputs = model(**inputs)\nloss = outputs.loss\nloss = loss + 0.1 * orth(model)",
        "loss, outputs = super().compute_loss(model, inputs, True)\nloss = loss + orth(model)",
    ],
)
def test_penalty_of_a_trainer_is_counted_twice(lines):
    trainer = TRAINER.replace("LINES", lines.replace("\n", "\n        "))
    call = CALLBACK.replace("\nTrainer(", "\nOrthTrainer(")
    assert codes(HEAD + ORTH + trainer + call) == {"ADA916"}


@pytest.mark.parametrize(("weight", "is_doubled"), [("args.orth", True), ("args.other", False)])
def test_weight_that_is_not_known_is_that_of_both_penalties(weight, is_doubled):
    text = _script("loss = total_loss(model, batch)", before=HELPER.replace("WEIGHT", weight))
    text = text.replace("deltaT=10,", "deltaT=10, orth_reg_weight=args.orth,")
    assert ("ADA916" in codes(ORTH + text)) is is_doubled


@pytest.mark.parametrize(
    ("task", "package", "severities"),
    [
        ("", "peft", ["info"]),
        ('task_type="CAUSAL_LM",', "peft", []),
        ("orth_reg_weight=0,", "peft", []),
        ("", "adalora_core.peft", []),
    ],
)
def test_penalty_that_no_task_type_lets_peft_add(task, package, severities):
    text = (HEAD + LOOP).replace('task_type="CAUSAL_LM",', task)
    text = text.replace("from peft", f"from {package}")
    found = check_config(text, format="python").diagnostics
    assert [each.severity for each in found if each.code == "ADA910"] == severities
