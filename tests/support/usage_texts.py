"""Hold the texts that the tests of the use of AdaLoRA vary, and read them."""

from __future__ import annotations

import ast
import textwrap

from adalora_core.checker.check import check_config
from adalora_core.checker.documents.python.script import Script
from adalora_core.checker.scripts.usage import Usage

HEAD = """\
from peft import AdaLoraConfig, get_peft_model
config = AdaLoraConfig(total_step=100)
model = get_peft_model(base, config)
optimizer = AdamW(model.parameters())
"""
LOOP = """\
step = 0
for epoch in range(3):
    for i, batch in enumerate(loader):
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        model.update_and_allocate(step)
        optimizer.zero_grad()
        step += 1
"""


def usage(code: str) -> Usage:
    """Return the use of AdaLoRA in a text."""
    text = textwrap.dedent(code)
    return Usage(Script(text, ast.parse(text)))


def allocation(code: str):
    """Return the only allocation of a text, with its script."""
    script = usage(HEAD + textwrap.dedent(code))
    (event,) = script.events("allocate")
    return script, event


def codes(text: str) -> set[str]:
    """Return the codes of a script, without what is only worth knowing."""
    report = check_config(text, format="python")
    return {each.code for each in report.diagnostics if each.severity != "info"}
