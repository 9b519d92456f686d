"""List all rules: those of `config.rules`, and those on texts, scripts, policies and comments."""

from __future__ import annotations

import adalora_core.config.rules  # noqa: F401 - defines its rules
from adalora_core.checker.rules import (  # noqa: F401 - each defines its rules
    input,  # noqa: A004 - the module's name
    usage_models,
    usage_order,
    usage_steps,
    yaml_traps,
)
from adalora_core.config.rules.base import Rule, defined_rules

RULES: tuple[Rule, ...] = defined_rules()
"""Every rule, in the order of the codes."""

BY_CODE = {rule.code: rule for rule in RULES}
