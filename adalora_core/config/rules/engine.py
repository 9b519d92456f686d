"""Run the rules over a decoded block, without files, positions or output."""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from typing import TYPE_CHECKING

from adalora_core.checker.documents.python.syntax import within_bounds
from adalora_core.checker.rules.input import LimitExceeded
from adalora_core.checker.scripts.usage import Usage
from adalora_core.config.rules import RULES
from adalora_core.config.rules.base import Finding
from adalora_core.config.rules.tools import ToolTrainsOtherwise
from adalora_core.config.rules.values import WrongPeftType

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adalora_core.checker.documents.document import Document
    from adalora_core.config.fields.block import Block
    from adalora_core.config.rules.base import Rule


def run(block: Block) -> list[Finding]:
    """Return all findings about `block`, as `findings` does."""
    return list(findings(block))


def findings(block: Block) -> Iterator[Finding]:
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
    for rule in _rules_to_call(block.changed, held):
        if invalid and not invalid.isdisjoint(rule.inputs):
            continue
        found = rule.check(block)
        if rule.fails_at_allocation and block.tool is not None and not block.tool.allocates:
            found = (dataclasses.replace(finding, severity="warning") for finding in found)
        yield from found


def usage_findings(document: Document) -> Iterator[Finding]:
    """Yield all findings about the code around the configurations of a script or notebook."""
    script = document.script
    if script is not None and script.is_about_adalora:
        usage = within_bounds(script, Usage, script)
        if usage is not None:
            for rule in _ON_SCRIPTS:
                yield from within_bounds(script, list, rule.check_usage(usage)) or ()
        if script.steps_left < 0:
            message = "the code around the configurations is too intertwined to follow to its end"
            hint = "move the training into a file of its own"
            extent = script.in_text((0, 0))
            yield Finding(LimitExceeded, (), message, severity="info", hint=hint, extent=extent)


_ON_SCRIPTS = tuple(rule for rule in RULES if rule.needs == "script")


@lru_cache(maxsize=512)
def _rules_to_call(changed: frozenset[str], states: frozenset[str]) -> tuple[Rule, ...]:
    """Return the rules to call, in the order of codes: most fields of most files have defaults.

    The result is cached, since the files of one project change the same few fields.
    """

    def is_called(rule: Rule) -> bool:
        if rule.needs != "nothing":
            return rule.needs in states
        fields = rule.inputs if rule.only_if_set is None else rule.only_if_set
        return not fields or not changed.isdisjoint(fields)

    return tuple(filter(is_called, RULES))
