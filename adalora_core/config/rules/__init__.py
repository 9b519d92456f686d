"""List the rules on configurations and runs: one small class each, in the module of its family."""

from __future__ import annotations

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
from adalora_core.config.rules.base import Rule, defined_rules

RULES: tuple[Rule, ...] = defined_rules()
"""Every rule on a configuration or a run, in the order of the codes."""

BY_CODE = {rule.code: rule for rule in RULES}
