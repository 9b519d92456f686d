"""Runs the rules over a decoded block; knows nothing of files, positions or output."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adalora_core.contract.fields import FIELDS
from adalora_core.contract.rules import RULES
from adalora_core.contract.rules.shape import WRONG_PEFT_TYPE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adalora_core.contract.block import Block
    from adalora_core.contract.rule import Finding, Rule


def run(block: Block) -> list[Finding]:
    """Return everything that is wrong with `block`.

    A rule is skipped only if one of the fields that it reads is wrong on its own, so one bad
    field never hides a finding about others.
    """
    if block.is_other_method:
        return list(WRONG_PEFT_TYPE.check(block))
    found: list[Finding] = []
    invalid = block.invalid
    for rule in _with_something_to_say(block):
        if invalid and not invalid.isdisjoint(rule.inputs):
            continue
        found.extend(rule.check(block))
    return found


def _fields_of(rule: Rule) -> tuple[str, ...]:
    return rule.inputs if rule.only_if_set is None else rule.only_if_set


# Most fields of most files have their defaults, so most rules need not even be called.
_ALWAYS = frozenset(r for r in RULES if r.needs == "nothing" and not _fields_of(r))
_ON_FAULTS = frozenset(rule for rule in RULES if rule.needs == "faults")
_ON_ODDITIES = frozenset(rule for rule in RULES if rule.needs == "oddities")
_BY_FIELD = {name: frozenset(r for r in RULES if name in _fields_of(r)) for name in FIELDS}


def _with_something_to_say(block: Block) -> Iterator[Rule]:
    chosen = set(_ALWAYS)
    if block.has_faults:
        chosen |= _ON_FAULTS
    if block.oddities:
        chosen |= _ON_ODDITIES
    for name in block.changed:
        chosen |= _BY_FIELD[name]
    return (rule for rule in RULES if rule in chosen)
