"""List all rules: one small class each, in the module of its family."""

from __future__ import annotations

from adalora_core.contract.rules import (  # noqa: F401 - each defines its rules
    allocations,
    conflicts,
    input,  # noqa: A004 - the module's name
    patterns,
    ranges,
    rank_patterns,
    ranks,
    regexes,
    runs,
    schedule,
    settings,
    targets,
    tools,
    usage_models,
    usage_order,
    usage_steps,
    values,
    versions,
    yaml_traps,
)
from adalora_core.contract.rules.base import Rule

RULES: tuple[Rule, ...] = tuple(rule() for rule in sorted(Rule.defined, key=lambda rule: rule.code))
"""Every rule, in the order of the codes."""

BY_CODE = {rule.code: rule for rule in RULES}
