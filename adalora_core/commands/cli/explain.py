"""Run `adalora explain`: name the rules about an error of PEFT, torch or transformers."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from adalora_core.commands.cli.arguments import BOUND, Parser, add, text
from adalora_core.commands.cli.output import FINDINGS, FINE, fail, print_text
from adalora_core.commands.session import SESSION

if TYPE_CHECKING:
    from adalora_core.config.rules.base import Rule

_NOISE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|[\u2500-\u257f]|\[rank\d+\]:?")
"""Colours and boxes of a terminal, and the prefix of a process."""
_GAP = 2000
"""The most characters that may stand for what varies."""


def make_parser() -> Parser:
    """Return the parser of `adalora explain`."""
    parser = Parser(
        prog="adalora explain",
        description="Name the rule about an error, and what to do.",
        epilog="example: adalora explain < traceback.txt; exit code: 0 known, 1 not known",
    )
    add(
        parser,
        {"words": {"nargs": "*", **text("TEXT", "the error; without it, standard input")}, **BOUND},
    )
    return parser


def run(argv: Sequence[str]) -> int:
    """Run `adalora explain [TEXT ...]` and return the exit code."""
    words = make_parser().parse_args(argv).words
    if not words and sys.stdin is None:
        return fail("explain", "standard input is closed")
    given = " ".join(words) if words else _input().decode(errors="replace")
    found = explained(given)
    if not found:
        print_text("not known: no rule is about this error, which may not be of AdaLoRA\n")
        return FINDINGS
    for rule in found:
        print_text(
            f"{rule.code} {rule.name}: {rule.summary}\n  {rule.why}\n  what to do: {rule.hint}\n\n"
        )
    print_text(f"'adalora rule {found[0].code}' shows an example\n")
    return FINE


def _input() -> bytes:
    with SESSION.waiting():
        return sys.stdin.buffer.read()


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
