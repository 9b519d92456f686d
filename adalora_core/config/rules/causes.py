"""Find which findings follow from another one: the remedy of that one ends them too."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from adalora_core.config.changes import Change, ConflictError, Insert, Rename, Replace, changed
from adalora_core.config.fields.expressions import Expressions

if TYPE_CHECKING:
    from adalora_core.config.fields.block import Block
    from adalora_core.config.rules.base import Finding

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
    if isinstance(change, Replace):
        return None
    values, path = dict(block.values), change.path
    name = next((name for name in values if path[: len(block.at(name))] == block.at(name)), None)
    if isinstance(change, Insert):
        if path[:-1] != block.path:
            return None
        values[str(path[-1])] = change.value
    elif name is None:
        return None
    elif isinstance(change, Rename) and path == block.at(name):
        prefix = str(path[-1]).removesuffix(name)
        values[change.name.removeprefix(prefix)] = values.pop(name)
    else:
        inside = dataclasses.replace(change, path=(name, *path[len(block.at(name)) :]))
        try:
            values |= changed({name: values[name]}, [inside])
        except ConflictError:
            return None
    return dataclasses.replace(block, values=values, expressions=Expressions())
