"""Write a rule as a page of Markdown, and name the rules about an error."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adalora_core.config.rules.base import Example, Rule


def page(rule: Rule, *, with_examples: bool = True, of_site: bool = False) -> str:
    """Return the rule's page, also without its last part, the examples.

    On the site the wrong lines are marked, by a mark that other readers of Markdown would show.
    """
    shown = [f"`` {each} ``" if "`" in each else f"`{each}`" for each in rule.errors]
    errors = f"\n**Error that may follow:** {'; '.join(shown)}\n" if shown else ""
    options = (("--fix", rule.safe_fix), ("--fix --unsafe-fixes", rule.unsafe_fix))
    fixes = "".join(f"\n**With `{option}`:** {what}.\n" for option, what in options if what)
    text = f"""# {rule.code} {rule.name}

Severity: {rule.severity}. Since: {rule.since}.

**What:** {rule.summary}.

**Why:** {rule.why}
{errors}
**What to do:** {rule.hint}.
{fixes}{"" if rule.can_be_ignored else _NOT_IGNORED}"""
    return f"{text}\n{_examples(rule, of_site=of_site)}" if with_examples else text


def _examples(rule: Rule, *, of_site: bool) -> str:
    options = "".join(
        f", with `{name}` `{value if isinstance(value, str) else json.dumps(value)}`"
        for name, value in rule.example_options.items()
    )
    from difflib import SequenceMatcher, unified_diff  # imported for pages only: it takes time

    bad, good = (example_text(each).splitlines() for each in (rule.bad, rule.good))
    changes = SequenceMatcher(None, bad, good, autojunk=False).get_opcodes()
    wrong = [
        str(n + 1) for tag, first, end, *_ in changes if tag != "equal" for n in range(first, end)
    ]
    marks = f' hl_lines="{" ".join(wrong)}"' if wrong and of_site else ""
    change = list(unified_diff(bad, good, lineterm=""))[2:]
    return f"""## Wrong{options}

{_fenced(bad, f"{rule.language}{marks}")}
## Right

{_fenced([line for line in change if not line.startswith("@@")], "diff")}"""


_NOT_IGNORED = """
**Cannot be ignored or suppressed:** a file in which nothing could be checked must not pass.
"""


def example_text(example: Example) -> str:
    """Return an example as the text of a file."""
    if isinstance(example, str):
        return example
    # Short lists stay on one line, as people write them.
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in example.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


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


def families(rules: Sequence[Rule]) -> dict[str, list[Rule]]:
    """Return the rules by the titles of their families."""
    found: dict[str, list[Rule]] = {}
    for rule in rules:
        start = max(filter(rule.code.startswith, FAMILIES), key=len)
        found.setdefault(FAMILIES[start], []).append(rule)
    return found


def index(rules: Sequence[Rule]) -> str:
    """Return the tables of all rules that `docs/rules/README.md` holds."""
    head = "| Code | Name | Severity | Fix | What |\n|---|---|---|---|---|\n"
    tables = "\n".join(
        f"## {title}\n\n{head}{''.join(map(_row, family))}"
        for title, family in families(rules).items()
    )
    return f"""# Rules

Generated from the rule classes: `adalora rule CODE` prints the same pages.

{tables}"""


def _row(rule: Rule) -> str:
    fix = "safe" if rule.safe_fix else "unsafe" if rule.unsafe_fix else ""
    link = f"[{rule.code}]({rule.code}.md)"
    return f"| {link} | {rule.name} | {rule.severity} | {fix} | {rule.summary} |\n"


def pages(rules: Sequence[Rule]) -> dict[str, str]:
    """Return every file of `docs/rules/` by its name."""
    return {"README.md": index(rules)} | {
        f"{rule.code}.md": page(rule, of_site=True) for rule in rules
    }


def _fenced(lines: Sequence[str], language: str) -> str:
    return "\n".join([f"```{language}", *lines, "```\n"])


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
