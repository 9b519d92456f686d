"""Run `adalora completion`: print what a shell needs to complete commands, options and files."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from adalora_core.cli.arguments import Parser
from adalora_core.cli.exit_codes import FINE
from adalora_core.cli.failing import fail
from adalora_core.cli.output import print_text
from adalora_core.contract.rules import RULES
from adalora_core.errors import MissingExtraError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

SHELLS = ("bash", "zsh", "fish")
_FILES = ("PATH", "FILE", "FILE.png", "PLACE")
_FOLDERS = ("DIR", "ADAPTER_DIR", "OUT")


def make_parser() -> Parser:
    """Return the parser of `adalora completion`."""
    parser = Parser(
        prog="adalora completion",
        description="Print the completion of a shell for this command.",
        epilog='bash and zsh: eval "$(adalora completion SHELL)"; fish: adalora completion fish > '
        "~/.config/fish/completions/adalora.fish",
    )
    parser.add_argument("shell", choices=SHELLS, help="the shell")
    return parser


def run(argv: Sequence[str]) -> int:
    """Print the completion of one shell; return 2 if shtab, which writes it, is missing."""
    options = make_parser().parse_args(argv)
    try:
        import shtab
    except ImportError:
        return fail("completion", MissingExtraError("shtab", "completion", "the completion"))
    print_text(shtab.complete(_whole_parser(), options.shell))
    return FINE


def _whole_parser() -> Parser:
    """Return one parser of all commands, for completion only."""
    from adalora_core.cli import COMMANDS

    whole = Parser(prog="adalora")
    whole.add_argument("-V", "--version", action="store_true", help="print the version")
    commands = whole.add_subparsers()
    for name, (place, summary) in COMMANDS.items():
        module = importlib.import_module(place.partition(":")[0])
        parser = commands.add_parser(
            name, help=summary, parents=[module.make_parser()], add_help=False
        )
        for action in parser._actions:  # noqa: SLF001 - argparse has no other list of them
            _complete(action)
    return whole


def _complete(action: argparse.Action) -> None:
    """Say what the value of an argument is: a file, a folder or a rule."""
    import shtab

    if action.metavar in _FILES:
        action.complete = shtab.FILE  # type: ignore[attr-defined]
    elif action.metavar in _FOLDERS:
        action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    elif action.metavar in {"CODE", "CODES"}:
        action.choices = [rule.code for rule in RULES]
