"""List all rules, with those on texts, scripts, policies and comments, and run them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from adalora_core.checker.documents.python.syntax import unless_too_deep
from adalora_core.checker.rules import (  # noqa: F401 - each defines its rules
    input,  # noqa: A004 - the module's name
    lora,
    usage_calls,
    usage_frozen,
    usage_models,
    usage_order,
    usage_setup,
    usage_steps,
)
from adalora_core.checker.rules.usage_base import CodeFault, UsageRule, is_expected, is_used
from adalora_core.checker.rules.usage_steps import TotalStepCountsSamples
from adalora_core.checker.scripts.usage import Usage
from adalora_core.config.fields.table import LORA, PEFT_TYPE, Method
from adalora_core.config.rules import Engine
from adalora_core.config.rules.base import BOTH, Finding, Rule, defined_rules
from adalora_core.floor.expressions.matching import is_cheap

if TYPE_CHECKING:
    from adalora_core.checker.documents.document import Document
    from adalora_core.checker.documents.python.script import Script

RULES: tuple[Rule, ...] = defined_rules()
"""Every rule, in the order of the codes."""

BY_CODE = {rule.code: rule for rule in RULES}

_IN_CODE = tuple(rule for rule in RULES if isinstance(rule, UsageRule))
_ON_SCRIPTS = {
    method: tuple(rule for rule in _IN_CODE if method in rule.methods) for method in BOTH
}

findings = Engine(RULES).findings
"""Yields all findings about a block, as `Engine.findings` does."""


def usage_findings(document: Document) -> Iterator[Finding]:
    """Yield all findings about the code around the configurations of a script or notebook."""
    script = document.script
    if script is not None and script.is_about_adalora:
        yield from _of_code(script, PEFT_TYPE)
    if script is not None and script.lora_calls:
        yield from _of_code(script, LORA)


def _of_code(script: Script, method: Method) -> Iterator[Finding]:
    usage = unless_too_deep(lambda: Usage(script, of_lora=method == LORA))
    for rule in _ON_SCRIPTS[method]:
        if usage is not None and all(word in script.code for word in rule.only_with):
            found: list[CodeFault] = unless_too_deep(list, rule.check_usage(usage)) or []
            for fault in found:
                severity = fault.severity or rule.severity
                if is_expected(script.scopes, fault.node, of_error=severity == "error"):
                    continue
                if severity == "error" and not is_used(script.scopes, fault.node):
                    severity = "info"
                yield _placed(rule, fault._replace(severity=severity), script)


def _placed(rule: UsageRule, fault: CodeFault, script: Script) -> Finding:
    """Return a fault of the code as a finding, with the places of its nodes in the text."""
    node, message, hint, note, remedy, severity = fault
    notes = () if note is None else ((script.extent(note[0]), note[1]),)
    return Finding(
        type(rule),
        (),
        message,
        hint=hint,
        extent=script.extent(node),
        notes=notes,
        remedy=remedy,
        severity=severity,
    )


_LONGEST = 64
"""Bound on the characters of an attribute that an expression is matched with."""


def _names_one_of(attributes: set[str], target: str) -> bool:
    """Return whether a target names or matches an attribute."""
    if not is_cheap(target, _LONGEST, anywhere=False):
        return False
    names = [name for name in attributes if len(name) <= _LONGEST]
    words = set(re.findall(r"[a-z]\w+", target, re.IGNORECASE))
    return any(name in words or re.fullmatch(target, name) for name in names)


def with_document(document: Document, found: list[Finding]) -> list[Finding]:
    """Return the findings; those on the value of a total that counts something else follow.

    Those on a target that a class of the script has are left out.
    """
    of_classes = document.script.scopes.attributes.items() if document.script else ()
    made = {name for (_, name), bound in of_classes if any(b.value is not None for b in bound)}
    found = [e for e in found if e.target is None or not _names_one_of(made, e.target)]
    totals = {f.extent[0]: f for f in found if f.extent and f.rule is TotalStepCountsSamples}
    for index, each in enumerate(found) if totals else ():
        span = document.span_of(each.path, "key") if each.path else None
        if span is not None and span.start in totals and each.cause is None:
            found[index] = replace(each, cause=totals[span.start])
    return found
