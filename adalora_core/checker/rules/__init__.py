"""List all rules, those on texts, scripts, policies and comments too, run them, write pages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace

from adalora_core.checker.documents.document import Document
from adalora_core.checker.documents.python.script import Script
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
from adalora_core.config.fields.block import Block
from adalora_core.config.fields.table import LORA, PEFT_TYPE, Method
from adalora_core.config.rules import findings as of_rules
from adalora_core.config.rules.base import BOTH, Example, Finding, Rule, defined_rules
from adalora_core.floor.matching import is_cheap

RULES: tuple[Rule, ...] = defined_rules()
"""Every rule, in the order of the codes."""

BY_CODE = {rule.code: rule for rule in RULES}

_IN_CODE = tuple(rule for rule in RULES if isinstance(rule, UsageRule))
_ON_SCRIPTS = {
    method: tuple(rule for rule in _IN_CODE if method in rule.methods) for method in BOTH
}

_ON_BLOCKS = [rule for rule in RULES if type(rule).check is not Rule.check]
_ON_PLAIN_BLOCKS = [rule for rule in _ON_BLOCKS if not isinstance(rule, input.YamlTrap)]


def findings(block: Block) -> Iterator[Finding]:
    """Yield all findings about a block."""
    return of_rules(block, _ON_BLOCKS if block.ambiguous_scalars else _ON_PLAIN_BLOCKS)


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


def page(rule: Rule, *, with_examples: bool = True) -> str:
    """Return a rule as plain text, also without its last part, the examples."""
    errors = "\n".join(f"    {each}" for each in rule.errors)
    options = (("--fix", rule.safe_fix), ("--fix --unsafe-fixes", rule.unsafe_fix))
    parts = [
        f"{rule.code} {rule.name}: {rule.severity}, since {rule.since}",
        f"What: {rule.summary}.",
        f"Why: {rule.why}",
        *([f"Error that may follow:\n\n{errors}"] if errors else []),
        f"What to do: {rule.hint}.",
        *(f"With {option}: {what}." for option, what in options if what),
        *([] if rule.can_be_ignored else [_NOT_IGNORED]),
    ]
    if with_examples:
        given = "".join(
            f", with {name} {value if isinstance(value, str) else json.dumps(value)}"
            for name, value in rule.example_options.items()
        )
        bad = example_text(rule.bad).splitlines()
        for title, lines in ((f"Wrong{given}", bad), ("Right", changed_lines(rule))):
            indented = "\n".join(f"    {line}".rstrip() for line in lines)
            parts.append(f"{title}:\n\n{indented}")
    return "\n\n".join(parts) + "\n"


_NOT_IGNORED = "Cannot be ignored or suppressed: what could not be checked must not pass."


def changed_lines(rule: Rule) -> list[str]:
    """Return the change of a rule's wrong example to the right one, as the lines of a diff."""
    from difflib import unified_diff  # imported for pages only: it takes time

    bad, good = (example_text(each).splitlines() for each in (rule.bad, rule.good))
    lines = list(unified_diff(bad, good, lineterm=""))[2:]
    return [line for line in lines if not line.startswith("@@")]


def example_text(example: Example) -> str:
    """Return an example as the text of a file."""
    if isinstance(example, str):
        return example
    # Short lists stay on one line, as people write them.
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in example.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


_NOISE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|[\u2500-\u257f]|\[rank\d+\]:?")
"""Colours and boxes of a terminal, and the prefix of a process."""
_GAP = 2000
"""The most characters that may stand for what varies."""


def explained(given: str) -> list[Rule]:
    """Return the rules about the last known error in a text, those that say most of it first.

    Example:
        >>> [rule.code for rule in explained("ValueError: PeftType.ADALORA does not support DoRA.")]
        ['ADA401']
    """
    # A shell takes backticks away.
    plain = " ".join(_NOISE.sub(" ", given).replace("`", "").split())
    found: dict[int, dict[Rule, int]] = {}
    for rule in RULES:
        for error in rule.errors:
            parts = (re.escape(part.strip()) for part in error.replace("`", "").split("..."))
            for match in re.finditer(f".{{0,{_GAP}}}?".join(parts), plain):
                found.setdefault(match.end(), {}).setdefault(rule, len(error))
    last = found[max(found)] if found else {}
    return sorted(last, key=lambda rule: (-last[rule], rule.code))
