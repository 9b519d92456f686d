"""List the rules on configurations and runs, one small class each, and run them over a block."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

from adalora_core.config.rules import (  # noqa: F401 - each defines its rules
    allocations,
    conflicts,
    lora,
    patterns,
    rank_patterns,
    ranks,
    runs,
    schedule,
    settings,
    targets,
    tools,
    total_step,
    values,
    versions,
)
from adalora_core.config.rules.base import Finding, Rule, defined_rules
from adalora_core.config.rules.tools import ToolTrainsOtherwise
from adalora_core.config.rules.values import WrongPeftType

if TYPE_CHECKING:
    from adalora_core.config.fields.block import Block
    from adalora_core.config.fields.table import Method

RULES: tuple[Rule, ...] = defined_rules()
"""Every rule on a configuration or a run, in the order of the codes."""

BY_CODE = {rule.code: rule for rule in RULES}


class Engine:
    """Calls those of its rules that a block needs."""

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self._rules = rules
        # The files of one project change the same few fields.
        self._rules_to_call = lru_cache(maxsize=512)(self._choose)

    def findings(self, block: Block) -> Iterator[Finding]:
        """Yield all findings about `block`.

        A rule is skipped only if one of the fields that it reads is wrong on its own, so one bad
        field never hides a finding about others.
        """
        if block.is_other_method:
            yield from WrongPeftType().check(block)
            return
        if block.is_refused:
            yield from ToolTrainsOtherwise().check(block)
            return
        invalid = block.invalid
        states = {
            "faults": block.has_faults,
            "ambiguous-scalars": bool(block.ambiguous_scalars),
            "tool": block.tool is not None,
        }
        held = frozenset(state for state, holds in states.items() if holds)
        for rule in self._rules_to_call(block.changed, held, block.method):
            if invalid and not invalid.isdisjoint(rule.inputs):
                continue
            found = rule.check(block)
            if rule.fails_at_allocation and block.tool is not None and not block.tool.allocates:
                found = (dataclasses.replace(finding, severity="warning") for finding in found)
            yield from found

    def _choose(
        self, changed: frozenset[str], states: frozenset[str], method: Method
    ) -> tuple[Rule, ...]:
        """Return the rules to call, in their order: most fields of most files have defaults."""

        def is_called(rule: Rule) -> bool:
            if method not in rule.methods:
                return False
            if rule.needs != "nothing":
                return rule.needs in states
            fields = rule.inputs if rule.only_if_set is None else rule.only_if_set
            return not fields or not changed.isdisjoint(fields)

        return tuple(filter(is_called, self._rules))


_ENGINE = Engine(RULES)


def findings(block: Block) -> list[Finding]:
    """Return all findings about the values of a configuration."""
    return list(_ENGINE.findings(block))
