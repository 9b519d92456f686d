"""Write the pages of the rules: a table of all by family, and one page each with its examples."""

from __future__ import annotations

import json
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

from adalora_core.checker.rules import RULES, changed_lines, example_text

if TYPE_CHECKING:
    from adalora_core.config.rules.base import Rule

FAMILIES = {
    "ADA0": "Texts and comments",
    "ADA1": "Keys and values",
    "ADA2": "Schedule",
    "ADA3": "Ranks",
    "ADA4": "Settings",
    "ADA5": "Targets",
    "ADA6": "YAML",
    "ADA7": "Releases of PEFT",
    "ADA8": "Runs and saved adapters",
    "ADA9": "Scripts",
    "ADA95": "Plain LoRA",
}
"""How the codes of a family begin, and its title; the longest beginning counts."""


def families() -> dict[str, list[Rule]]:
    """Return the rules by the titles of their families."""
    found: dict[str, list[Rule]] = {}
    for rule in RULES:
        start = max(filter(rule.code.startswith, FAMILIES), key=len)
        found.setdefault(FAMILIES[start], []).append(rule)
    return found


def table() -> str:
    """Return the tables of all rules, which `docs/rules/README.md` holds."""
    head = "| Code | Name | Severity | Fix | What |\n|---|---|---|---|---|\n"
    tables = [f"## {title}\n\n{head}{''.join(map(_row, of))}" for title, of in families().items()]
    intro = "Generated from the rule classes. `adalora rule CODE` explains one, with an example."
    return "\n".join([f"# Rules\n\n{intro}\n", *tables])


def pages() -> dict[str, str]:
    """Return `{address: page}` of every rule."""
    return {f"rules/{rule.code}.md": _page(rule) for rule in RULES}


def _row(rule: Rule) -> str:
    fix = "safe" if rule.safe_fix else "unsafe" if rule.unsafe_fix else ""
    return f"| {rule.code} | {rule.name} | {rule.severity} | {fix} | {rule.summary} |\n"


def _page(rule: Rule) -> str:
    """Return a page whose errors are headings, which a search ranks first."""
    errors = "\n\n".join(
        f"## `` {each} ``" if "`" in each else f"## `{each}`" for each in rule.errors
    )
    options = (("--fix", rule.safe_fix), ("--fix --unsafe-fixes", rule.unsafe_fix))
    with_options = "".join(
        f", with `{name}` `{value if isinstance(value, str) else json.dumps(value)}`"
        for name, value in rule.example_options.items()
    )
    bad, good = (example_text(each).splitlines() for each in (rule.bad, rule.good))
    changes = SequenceMatcher(None, bad, good, autojunk=False).get_opcodes()
    wrong = [n + 1 for tag, first, end, *_ in changes if tag != "equal" for n in range(first, end)]
    marks = f' hl_lines="{" ".join(map(str, wrong))}"' if wrong else ""
    parts = [
        f"# {rule.code} {rule.name}",
        f"Severity: {rule.severity}. Since: {rule.since}.",
        f"**What:** {rule.summary}.",
        f"**Why:** {rule.why}",
        *(["**Errors that may follow:**", errors] if errors else []),
        f"**What to do:** {rule.hint}.",
        *(f"**With `{option}`:** {what}." for option, what in options if what),
        *([] if rule.can_be_ignored else [_NOT_IGNORED]),
        f"## Wrong{with_options}",
        "\n".join([f"```{rule.language}{marks}", *bad, "```"]),
        "## Right",
        "\n".join(["```diff", *changed_lines(rule), "```"]),
    ]
    return "\n\n".join(parts) + "\n"


_NOT_IGNORED = (
    "**Cannot be ignored or suppressed:** a file in which nothing could be checked must not pass."
)
