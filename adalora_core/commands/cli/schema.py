"""Run `adalora schema`: print the JSON Schema of a configuration, or compare a file with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adalora_core.checker.reports.json_report import report_schema_text
from adalora_core.commands.cli.arguments import Parser, add, choice, flag, text
from adalora_core.commands.cli.output import FINDINGS, FINE, fail, print_text
from adalora_core.config.fields.table import LORA, PEFT_TYPE, Method
from adalora_core.config.schemas.config import DRAFTS, Draft, config_schema, to_text
from adalora_core.config.schemas.editor import editor_schema
from adalora_core.floor.escaping import visible

if TYPE_CHECKING:
    import argparse


def make_parser() -> Parser:
    """Return the parser of `adalora schema`."""
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


def run(argv: Sequence[str]) -> int:
    """Run `adalora schema ...` and return the exit code."""
    parser = make_parser()
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
