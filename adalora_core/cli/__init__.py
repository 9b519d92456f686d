"""The `adalora` command: one table of subcommands, each imported only when it runs."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

from adalora_core.cli.exit_codes import CANNOT_RUN

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = {
    "check": ("adalora_core.cli.check:run", "check AdaLoRA configurations"),
    "rule": ("adalora_core.cli.rule:run", "explain one rule, or list them all"),
    "plan": ("adalora_core.cli.plan:run", "show phases, allocations and budget of a configuration"),
    "schema": ("adalora_core.cli.schema:run", "print the JSON Schema of a configuration"),
    "env": ("adalora_core.cli.env:run", "print versions, backends and why one is missing"),
    "report": ("adalora_core.cli.report:run", "draw where the rank of a saved adapter went"),
    "export-lora": ("adalora_core.cli.export_lora:run", "write a saved adapter as plain LoRA"),
    "demo": ("adalora_core.demo:run", "fine-tune a real sentence encoder with AdaLoRA"),
}
"""`{command: (module:function, one line of help)}`; the function maps argv to the exit code."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `adalora COMMAND ...`; exit code 0 fine, 1 findings, 2 could not run."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in {"-h", "--help"}:
        print(_usage())
        return 0 if arguments else CANNOT_RUN
    if arguments[0] in {"-V", "--version"}:
        import adalora_core

        print(f"adalora-core {adalora_core.__version__}")
        return 0
    command, *rest = arguments
    if command not in COMMANDS:
        print(f"adalora: unknown command {command!r}\n\n{_usage()}", file=sys.stderr)
        return CANNOT_RUN
    module, _, function = COMMANDS[command][0].partition(":")
    exit_code: int = getattr(importlib.import_module(module), function)(rest)
    return exit_code


def _usage() -> str:
    lines = ["usage: adalora COMMAND [OPTIONS]", "", "commands:"]
    lines += [f"  {name:<12} {summary}" for name, (_, summary) in COMMANDS.items()]
    lines += ["", "'adalora COMMAND --help' describes a command."]
    return "\n".join(lines)
