"""List all rules: one small class each, in the module of its family."""

from __future__ import annotations

from adalora_core.checker.rules import input, usage_models, usage_order, usage_steps, yaml_traps  # noqa: F401 - each defines its rules
from adalora_core.config.rules import (  # noqa: F401 - each defines its rules
    allocations,
    conflicts,
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
    values,
    versions,
)
from adalora_core.config.rules.base import Rule

RULES: tuple[Rule, ...] = tuple(rule() for rule in sorted(Rule.defined, key=lambda rule: rule.code))
"""Every rule, in the order of the codes."""

BY_CODE = {rule.code: rule for rule in RULES}
