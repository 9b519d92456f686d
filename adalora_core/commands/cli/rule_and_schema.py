"""Run `adalora rule`, `explain` and `schema`: explain rules and errors, print a JSON Schema."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adalora_core.commands.cli.arguments import BOUND, Parser, add, choice, flag, text
from adalora_core.commands.cli.output import FINDINGS, FINE, fail, print_text, wrapped
from adalora_core.commands.session import SESSION
from adalora_core.floor.escaping import visible

if TYPE_CHECKING:
    import argparse

    from adalora_core.config.fields.table import Method
    from adalora_core.config.schemas.config import Draft


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

    from adalora_core.checker.rules import RULES, page

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
    from adalora_core.checker.rules import explained

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


def make_schema_parser() -> Parser:
    """Return the parser of `adalora schema`."""
    from adalora_core.config.schemas.config import DRAFTS

    parser = Parser(
        "Print the JSON Schema of a configuration.",
        {
            "adalora schema > adalora.schema.json": "for any validator",
            "adalora schema --flavour editor": "for VS Code and others",
        },
        prog="adalora schema",
    )
    add(
        parser,
        {
            "--flavour": choice(
                ("portable", "editor"),
                "portable: for any validator (default); editor: draft-07 with the keywords of VS "
                "Code and yaml-language-server",
            ),
            "--method": choice(
                ("adalora", "lora"), "whose configuration, for portable (default: adalora)"
            ),
            "--draft": choice(tuple(DRAFTS), "for portable (default: 2020-12)"),
            "--strict-keys": flag("reject keys that PEFT does not know"),
            "--check": text("FILE", "compare FILE, a schema written earlier, with this one"),
            "--of": choice(
                ("config", "report"),
                "config: the schema of a configuration (default); report: that of `adalora check "
                "--output-format json`",
                "config",
            ),
        },
    )
    return parser


def run_schema(argv: Sequence[str]) -> int:
    """Run `adalora schema ...` and return the exit code."""
    parser = make_schema_parser()
    options = parser.parse_args(argv)
    of_portable = options.draft or options.strict_keys or options.method
    if options.of != "config" and (of_portable or options.flavour):
        parser.error(
            f"--of {options.of} accepts none of --flavour, --method, --draft and --strict-keys"
        )
    if options.flavour == "editor" and of_portable:
        parser.error("--flavour editor accepts none of --method, --draft and --strict-keys")
    schema = _text(options)
    if options.check is None:
        print_text(schema)
        return FINE
    try:
        committed = Path(options.check).read_text(encoding="utf-8")
    except OSError as error:
        return fail("schema", error)
    except UnicodeDecodeError as error:
        return fail("schema", f"{options.check}: {error}")
    name = visible(options.check)
    if committed == schema:
        print(f"{name} is up to date")
        return FINE
    if '"properties"' not in committed:  # never advise to replace a configuration
        return fail(
            "schema",
            f"{options.check} is not a JSON Schema; to check a configuration: "
            f"adalora check {options.check}",
        )
    print(
        f"{name} differs from the schema of this version; regenerate it with: "
        f"adalora schema {_arguments(options)} > {name}"
    )
    return FINDINGS


def _text(options: argparse.Namespace) -> str:
    from adalora_core.checker.reports import report_schema_text
    from adalora_core.config.fields.table import LORA, PEFT_TYPE
    from adalora_core.config.schemas.config import config_schema, to_text
    from adalora_core.config.schemas.editor import editor_schema

    if options.of == "report":
        return report_schema_text()
    if options.flavour == "editor":
        return to_text(editor_schema())
    method: Method = LORA if options.method == "lora" else PEFT_TYPE
    draft: Draft = options.draft or "2020-12"
    return to_text(config_schema(draft, strict_keys=options.strict_keys, method=method))


def _arguments(options: argparse.Namespace) -> str:
    if options.of != "config":
        return f"--of {options.of}"
    if options.flavour == "editor":
        return "--flavour editor"
    strict = " --strict-keys" if options.strict_keys else ""
    method = "--method lora " if options.method == "lora" else ""
    return f"{method}--draft {options.draft or '2020-12'}{strict}"
