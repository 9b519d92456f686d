"""Run `adalora rule`: explain one rule, or list them all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from adalora_core.commands.cli.arguments import Parser, add, text
from adalora_core.commands.cli.output import FINE, fail, print_text
from adalora_core.floor.files import write_files


def make_parser() -> Parser:
    """Return the parser of `adalora rule`."""
    parser = Parser(prog="adalora rule", description="Explain one rule, or list them all.")
    page_ = {"nargs": "?", **text("CODE", "a code such as ADA202, or a name")}
    all_ = text("FOLDER", "write the pages of all rules and their index to FOLDER")
    add(parser, {"rule": page_, "--write": {"type": Path, **all_}})
    return parser


def run(argv: Sequence[str]) -> int:
    """Run `adalora rule [CODE|NAME]` and return the exit code."""
    options = make_parser().parse_args(argv)
    wanted = options.rule

    from adalora_core.checker.rules import RULES
    from adalora_core.checker.rules.pages import page, pages

    if options.write is not None:
        options.write.mkdir(parents=True, exist_ok=True)
        write_files({options.write / name: shown.encode() for name, shown in pages(RULES).items()})
        return FINE
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
            print_text(page(rule))
            return FINE
    from adalora_core.checker.pipeline.selection import unknown_rule

    return fail("rule", f"{unknown_rule(wanted)}; run 'adalora rule' to list all rules")
