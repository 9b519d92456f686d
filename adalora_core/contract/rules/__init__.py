"""All rules, by family: one small class each; adding one to its family's tuple is all it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adalora_core.contract.rules import (
    conflicts,
    house,
    patterns,
    rank_patterns,
    ranks,
    schedule,
    settings,
    shape,
    suppressions,
    versions,
    yaml_traps,
)
from adalora_core.contract.rules import input as input_rules

if TYPE_CHECKING:
    from adalora_core.contract.rule import Rule

_FAMILIES = (
    house,
    input_rules,
    shape,
    schedule,
    ranks,
    rank_patterns,
    conflicts,
    settings,
    patterns,
    yaml_traps,
    versions,
    suppressions,
)

RULES: tuple[Rule, ...] = tuple(
    sorted((rule for family in _FAMILIES for rule in family.RULES), key=lambda rule: rule.code)
)
"""Every rule, in the order of the codes."""

BY_CODE = {rule.code: rule for rule in RULES}
