"""Runs the rules over a decoded block; knows nothing of files, positions or output."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adalora_core.contract.rules import RULES
from adalora_core.contract.rules.shape import WRONG_PEFT_TYPE

if TYPE_CHECKING:
    from adalora_core.contract.block import Block
    from adalora_core.contract.rule import Finding


def run(block: Block) -> list[Finding]:
    """Return everything that is wrong with `block`.

    A rule is skipped only if one of the fields that it reads is wrong on its own, so one bad
    field never hides a finding about others.
    """
    if block.is_other_method:
        return list(WRONG_PEFT_TYPE.check(block))
    found: list[Finding] = []
    invalid = block.invalid
    for rule in RULES:
        if invalid and not invalid.isdisjoint(rule.inputs):
            continue
        found.extend(rule.check(block))
    return found
