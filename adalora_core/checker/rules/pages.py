"""Write a rule as a page of plain text, and name the rules about an error."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adalora_core.config.rules.base import Example, Rule


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
    from adalora_core.checker.rules import RULES

    plain = " ".join(_NOISE.sub(" ", given).split())
    found: dict[int, dict[Rule, int]] = {}
    for rule in RULES:
        for error in rule.errors:
            parts = (re.escape(part.strip()) for part in error.split("..."))
            for match in re.finditer(f".{{0,{_GAP}}}?".join(parts), plain):
                found.setdefault(match.end(), {}).setdefault(rule, len(error))
    last = found[max(found)] if found else {}
    return sorted(last, key=lambda rule: (-last[rule], rule.code))
