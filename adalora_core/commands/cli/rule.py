"""Run `adalora rule` and `adalora explain`: explain a rule, list all, or name that of an error."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from adalora_core.commands.cli.arguments import BOUND, Parser, add, text
from adalora_core.commands.cli.output import FINDINGS, FINE, fail, print_text, wrapped
from adalora_core.commands.session import SESSION


def run(argv: Sequence[str]) -> int:
    """Run `adalora rule [CODE|NAME]` and return the exit code."""
    parser = Parser(
        "Explain one rule, or list them all.",
        {"adalora rule ADA202": "why, and how to mend it", "adalora rule": "all codes and names"},
        prog="adalora rule",
    )
    page_ = {"nargs": "?", **text("CODE", "a code such as ADA202, or a name")}
    add(parser, {"rule": page_})
    wanted = parser.parse_args(argv).rule

    from adalora_core.checker.rules import RULES
    from adalora_core.checker.rules.pages import page

    if wanted is None:
        width = max(len(rule.name) for rule in RULES)
        lines = [
            f"{rule.code}  {rule.severity:<7}  {rule.name:<{width}}  {rule.summary}\n"
            for rule in RULES
        ]
        print_text("".join(lines))
        return FINE
    for rule in RULES:
        if wanted.lower() in (rule.code.lower(), rule.name):
            print_text(wrapped(page(rule)))
            return FINE
    from adalora_core.checker.pipeline.selection import unknown_rule

    return fail("rule", f"{unknown_rule(wanted)}; run 'adalora rule' to list all rules")


def run_explain(argv: Sequence[str]) -> int:
    """Run `adalora explain [TEXT ...]` and return the exit code."""
    parser = Parser(
        "Name the rule about an error, and what to do.",
        {
            "adalora explain < traceback.txt": "the last known error of a text",
            "adalora explain \"KeyError: 'adalora'\"": "an error",
        },
        prog="adalora explain",
        epilog="exit code: 0 known, 1 not known",
    )
    add(
        parser,
        {"words": {"nargs": "*", **text("TEXT", "the error; without it, standard input")}, **BOUND},
    )
    words = parser.parse_args(argv).words
    if not words and sys.stdin is None:
        return fail("explain", "standard input is closed")
    with SESSION.waiting():
        given = " ".join(words) or sys.stdin.buffer.read().decode(errors="replace")
    from adalora_core.checker.rules.pages import explained

    found = explained(given)
    if not found:
        print_text("not known: no rule is about this error, which may not be of AdaLoRA\n")
        return FINDINGS
    for rule in found:
        lines = (
            f"{rule.code} {rule.name}: {rule.summary}\n  {rule.why}\n  what to do: {rule.hint}\n\n"
        )
        print_text(wrapped(lines))
    print_text(f"'adalora rule {found[0].code}' shows an example\n")
    return FINE
