"""List all rules: one small class each, in the tuple of its family."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adalora_core.contract.rules import (
    allocations,
    conflicts,
    patterns,
    policy,
    ranges,
    rank_patterns,
    ranks,
    regexes,
    runs,
    runs_saved,
    schedule,
    settings,
    sub_configs,
    suppressions,
    targets,
    tools,
    usage_models,
    usage_order,
    usage_steps,
    values,
    versions,
    yaml_traps,
)
from adalora_core.contract.rules import input as input_rules

if TYPE_CHECKING:
    from adalora_core.contract.rules.base import Rule

_FAMILIES = (
    input_rules,
    policy,
    suppressions,
    values,
    ranges,
    schedule,
    tools,
    allocations,
    ranks,
    rank_patterns,
    conflicts,
    settings,
    sub_configs,
    regexes,
    patterns,
    targets,
    yaml_traps,
    versions,
    runs,
    runs_saved,
    usage_steps,
    usage_order,
    usage_models,
)

RULES: tuple[Rule, ...] = tuple(
    sorted((rule for family in _FAMILIES for rule in family.RULES), key=lambda rule: rule.code)
)
"""Every rule, in the order of the codes."""

BY_CODE = {rule.code: rule for rule in RULES}
