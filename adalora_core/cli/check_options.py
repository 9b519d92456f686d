"""The options of `adalora check`: command line over `[tool.adalora]` over defaults."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from adalora_core.cli.settings import RUNTIMES, project_settings
from adalora_core.contract.fields.block import Layout
from adalora_core.contract.findings import SEVERITIES
from adalora_core.contract.reports import FORMATS as OUTPUT_FORMATS
from adalora_core.contract.text.reading import FORMATS

if TYPE_CHECKING:
    from collections.abc import Sequence


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read the arguments, with the project's settings as defaults.

    Raises:
        ValueError: the project's settings are wrong.
        SystemExit: the arguments are (exit code 2), or help was asked for.
    """
    parser = _parser()
    isolated, _ = _isolation().parse_known_args(argv)
    if not isolated.isolated:
        parser.set_defaults(**project_settings(Path.cwd()))
    options = parser.parse_args(argv)
    if options.unsafe_fixes and not (options.fix or options.diff):
        parser.error("--unsafe-fixes says which fixes --fix or --diff makes: add one of the two")
    return options


def _isolation() -> argparse.ArgumentParser:
    """Return the one option that decides where the defaults of the others come from."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(
        "--isolated", action="store_true", help="do not read [tool.adalora] of pyproject.toml"
    )
    return parser


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="adalora check",
        description="Check AdaLoRA configurations in JSON, YAML and TOML files.",
        epilog="exit code: 0 nothing at or above the fail level, 1 findings, 2 could not run",
        parents=[_isolation()],
    )
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="a file, folder or pattern; - for standard input"
    )
    _add_judging(parser.add_argument_group("how to judge"))
    _add_finding(parser.add_argument_group("where to look"))
    _add_fixing(parser.add_argument_group("what to fix"))
    _add_reporting(parser.add_argument_group("what to report"))
    return parser


def _codes(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _add_judging(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--runtime", choices=RUNTIMES, default="peft", help="who will train (default: peft)"
    )
    group.add_argument(
        "--strict-keys", action="store_true", help="make unknown keys errors instead of warnings"
    )
    group.add_argument("--peft-version", metavar="X.Y", help="also judge for this PEFT release")
    group.add_argument(
        "--policy", metavar="FILE", help="a JSON Schema of your own that must hold as well"
    )
    group.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="set a limit: file-bytes, depth, nodes, regex-length, diagnostics",
    )


def _add_finding(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--key", metavar="POINTER", help="JSON pointer of the AdaLoRA mapping, such as /model/peft"
    )
    group.add_argument(
        "--layout",
        choices=get_args(Layout),
        help="how the file's tool writes AdaLoRA's settings (default: all are tried)",
    )
    group.add_argument("--format", choices=FORMATS, help="default: by the suffix, else json")
    group.add_argument("--stdin-filename", metavar="NAME", help="the name to report for -")
    group.add_argument(
        "--exclude", action="append", default=[], metavar="GLOB", help="leave out matching files"
    )
    group.add_argument(
        "--ignore-unmatched", action="store_true", help="let named files without AdaLoRA pass"
    )
    group.add_argument(
        "--allow-empty", action="store_true", help="let a run that found no file pass"
    )


def _add_fixing(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--fix",
        action="store_true",
        help="make the safe fixes in the files, then report what is left; with - the fixed text "
        "goes to standard output and the report to standard error",
    )
    group.add_argument(
        "--unsafe-fixes",
        action="store_true",
        help="also make fixes that change the meaning to what was probably meant",
    )
    group.add_argument(
        "--diff",
        action="store_true",
        help="write nothing: print what --fix would change, and exit with 1 if that is anything",
    )


def _add_reporting(group: argparse._ArgumentGroup) -> None:
    group.add_argument("-o", "--output-format", choices=OUTPUT_FORMATS, default="full")
    group.add_argument(
        "--output-file",
        action="append",
        default=[],
        metavar="FORMAT=FILE",
        help="write a report to a file as well; may be repeated",
    )
    group.add_argument(
        "--select", type=_codes, default=[], metavar="CODES", help="only these rules: ADA2,ADA301"
    )
    group.add_argument("--ignore", type=_codes, default=[], metavar="CODES", help="not these rules")
    group.add_argument(
        "--per-file-ignores",
        action="append",
        default=[],
        metavar="PATTERN:CODES",
        help="not these rules in files whose name fits; may be repeated",
    )
    group.add_argument(
        "--fail-level",
        choices=SEVERITIES,
        default="error",
        help="the mildest severity that makes the exit code 1 (default: error)",
    )
    group.add_argument("--exit-zero", action="store_true", help="exit with 0 in spite of findings")
    group.add_argument("--color", choices=("auto", "always", "never"), default="auto")
