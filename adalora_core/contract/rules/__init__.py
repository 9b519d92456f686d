"""All rules, by family: one small class each; adding one here is all it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adalora_core.contract.rules import conflicts, ranks, schedule, settings, shape
from adalora_core.contract.rules import input as input_rules

if TYPE_CHECKING:
    from adalora_core.contract.rule import Rule

RULES: tuple[Rule, ...] = tuple(
    sorted(
        (*input_rules.RULES, *shape.RULES, *schedule.RULES, *ranks.RULES, *conflicts.RULES, *settings.RULES),
        key=lambda rule: rule.code,
    )
)
"""Every rule, in the order of the codes."""

BY_CODE = {rule.code: rule for rule in RULES}
