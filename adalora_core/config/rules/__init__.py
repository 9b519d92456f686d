"""List the rules on configurations and runs, one small class each, and run them over a block.

Of several findings, one may be the cause of another: its remedy ends both.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence

from adalora_core.config.fields.block import Block
from adalora_core.config.fields.expressions import Expressions
from adalora_core.config.findings import Change, ConflictError, Insert, Rename, Replace, changed
from adalora_core.config.rules import (  # noqa: F401 - each defines its rules
    allocations,
    conflicts,
    keys,
    patterns,
    rank_patterns,
    ranks,
    runs,
    schedule,
    settings,
    targets,
    values,
)
from adalora_core.config.rules.base import Finding, Rule, defined_rules
from adalora_core.config.rules.keys import WrongPeftType
from adalora_core.config.rules.schedule import ToolTrainsOtherwise

RULES: tuple[Rule, ...] = defined_rules()
"""Every rule on a configuration or a run, in the order of the codes."""

BY_CODE = {rule.code: rule for rule in RULES}


def findings(block: Block, rules: Iterable[Rule] = RULES) -> Iterator[Finding]:
    """Yield all findings about the values of a configuration.

    A rule is skipped only if one of the fields that it reads is wrong on its own, so one bad field
    never hides a finding about others.
    """
    if block.is_other_method:
        rules = (WrongPeftType(),)
    elif block.is_refused:
        rules = (ToolTrainsOtherwise(),)
    method, changed, invalid = block.method, block.changed, block.invalid
    for rule in rules:
        if method not in rule.methods or not invalid.isdisjoint(rule.inputs):
            continue
        if rule.inputs and not rule.judges_defaults and changed.isdisjoint(rule.inputs):
            continue  # most fields of most files have defaults
        found = rule.check(block)
        if rule.fails_at_allocation and block.tool is not None and not block.tool.allocates:
            found = (dataclasses.replace(finding, severity="warning") for finding in found)
        yield from found


MOST_TRIED = 16
"""The most remedies of a configuration that are tried; each judges the configuration again."""


def with_causes(
    block: Block, found: Sequence[Finding], judge: Callable[[Block], Iterable[Finding]]
) -> list[Finding]:
    """Return the findings, with a cause where one follows from another.

    A cause has none itself. Of two findings whose remedies end both, the first is the cause.
    """
    result = list(found)
    remedied = [index for index, finding in enumerate(result) if finding.remedy is not None]
    if len(result) < 2 or not remedied:  # noqa: PLR2004 - nothing else
        return result
    old = {(finding.rule, finding.path) for finding in result}
    causes: set[int] = set()
    for index in remedied[:MOST_TRIED]:
        cause = result[index]
        if cause.cause is not None or cause.remedy is None:
            continue
        mended = _mended(block, cause.remedy.change)
        if mended is None:
            continue
        left = {(finding.rule, finding.path) for finding in judge(mended)}
        moved = {rule for rule, _ in left - old}
        unsure = mended.invalid - block.invalid  # rules that read these were not asked
        for other, each in enumerate(result):
            is_gone = (each.rule, each.path) not in left and each.rule not in moved
            is_open = other not in causes and other != index and each.cause is None
            if is_gone and is_open and unsure.isdisjoint(each.rule.inputs):
                result[other] = dataclasses.replace(each, cause=cause)
                causes.add(index)
    return result


def _mended(block: Block, change: Change) -> Block | None:
    """Return the configuration with a change of its document; None: it concerns something else."""
    if isinstance(change, (Replace, Insert)):
        return None
    given, path = dict(block.values), change.path
    name = next((name for name in given if path[: len(block.at(name))] == block.at(name)), None)
    if name is None:
        return None
    if isinstance(change, Rename) and path == block.at(name):
        prefix = str(path[-1]).removesuffix(name)
        given[change.name.removeprefix(prefix)] = given.pop(name)
    else:
        inside = dataclasses.replace(change, path=(name, *path[len(block.at(name)) :]))
        try:
            given |= changed({name: given[name]}, [inside])
        except ConflictError:
            return None
    return dataclasses.replace(block, values=given, expressions=Expressions())
