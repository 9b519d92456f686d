"""Read the options of `adalora check`: command line before `[tool.adalora]` before defaults."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from adalora_core.checker.documents.document import FORMATS
from adalora_core.checker.reports import FORMATS as OUTPUT_FORMATS
from adalora_core.checker.reports.text import STATISTICS_FORMATS
from adalora_core.commands.cli.arguments import Parser
from adalora_core.commands.cli.settings import Settings, project_settings, read_settings
from adalora_core.config.fields.table import Runtime
from adalora_core.config.fields.tools import Layout
from adalora_core.config.findings import SEVERITIES

if TYPE_CHECKING:
    from collections.abc import Sequence

NAMES_AFTER_DASHES = "--names-after-dashes"
"""The option of hooks; a program that adds names of files calls the command with it."""


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the arguments, with the project's settings as defaults.

    Raises:
        ValueError: the project's settings are wrong.
        SystemExit: the arguments are wrong (exit code 2) or ask for help (0).
    """
    parser = make_parser()
    if NAMES_AFTER_DASHES in argv and "--" not in argv:
        parser.error(_without_dashes(argv))
    source, _ = _source_of_settings().parse_known_args(argv)
    here = Path.cwd()
    if source.isolated:
        project = Settings()
    elif source.settings is not None:
        project = read_settings(Path(source.settings).absolute(), here)
    else:
        project = project_settings(here)
    parser.set_defaults(**project.defaults, project=project)
    options: argparse.Namespace = parser.parse_args(argv)
    if not options.paths and argv[-1:] != ["--"]:  # which ends a list of names that is empty
        options.paths = ["."]
    if options.unsafe_fixes and not (options.fix or options.diff):
        parser.error("--unsafe-fixes has no effect alone: add --fix or --diff")
    if options.add_ignores and (options.fix or options.diff):
        parser.error("--add-ignores does not go with --fix or --diff: fix first, then ignore")
    if options.add_ignores and options.no_suppressions:
        parser.error("--add-ignores does not go with --no-suppressions, which ignores comments")
    if options.statistics and options.output_format not in STATISTICS_FORMATS:
        shown = ", ".join(STATISTICS_FORMATS)
        parser.error(f"--statistics has the formats {shown}, not {options.output_format}")
    return options


def _without_dashes(argv: Sequence[str]) -> str:
    """Explain how the configuration of a hook keeps names of files from being options."""
    arguments = list(argv[argv.index(NAMES_AFTER_DASHES) + 1 :])
    names = [index for index, each in enumerate(arguments) if Path(each).exists()]
    args = ", ".join([*arguments[: min(names, default=0)], "--"])
    return (
        "the args of the hook do not end with --, so the name of a file could be an option; "
        f"write args: [{args}]"
    )


def _source_of_settings() -> Parser:
    """Return a parser of the options that decide on the defaults of all other options."""
    parser = Parser(add_help=False)
    parser.add_argument(
        "--isolated", action="store_true", help="do not read [tool.adalora] of any file"
    )
    parser.add_argument(
        "--settings",
        metavar="FILE",
        help="read [tool.adalora] of this file, and not of the nearest pyproject.toml",
    )
    return parser


def make_parser() -> Parser:
    """Return the parser of `adalora check`."""
    parser = Parser(
        prog="adalora check",
        description="Check AdaLoRA configurations in JSON, YAML and TOML files, Python scripts and "
        "notebooks.",
        epilog="exit code: 0 no finding at or above the fail level, 1 findings, 2 could not run",
        parents=[_source_of_settings()],
    )
    parser.add_argument(
        "paths",
        nargs="*",
        metavar="PATH",
        help="a file, a folder or a pattern; - for standard input (default: the working folder)",
    )
    _add_check_options(parser.add_argument_group("how to check"))
    _add_search_options(parser.add_argument_group("where to look"))
    _add_fix_options(parser.add_argument_group("what to fix"))
    _add_report_options(parser.add_argument_group("what to report"))
    return parser


def _codes(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _add_check_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--runtime",
        choices=get_args(Runtime),
        default="peft",
        help="the package that will train (default: peft)",
    )
    group.add_argument(
        "--strict-keys", action="store_true", help="make unknown keys errors instead of warnings"
    )
    group.add_argument(
        "--strict-types",
        action="store_true",
        help="make values of another type errors also where the runtime works with them",
    )
    group.add_argument(
        "--peft-version",
        metavar="X.Y",
        help="also report what this PEFT release ignores or refuses",
    )
    group.add_argument(
        "--policy",
        metavar="FILE",
        help="a JSON Schema of your own that every configuration must satisfy too",
    )
    group.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="change a limit: file-bytes, depth, nodes, regex-length, diagnostics",
    )


def _add_search_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--key", metavar="POINTER", help="JSON pointer of the AdaLoRA mapping, such as /model/peft"
    )
    group.add_argument(
        "--layout",
        choices=get_args(Layout),
        help="how the file lays out AdaLoRA's settings (default: try every layout)",
    )
    group.add_argument(
        "--format", choices=FORMATS, help="of every file (default: by its suffix, else json)"
    )
    group.add_argument("--stdin-filename", metavar="NAME", help="the name that reports show for -")
    group.add_argument(
        "--exclude", action="append", default=[], metavar="GLOB", help="ignore matching files"
    )
    group.add_argument(
        "--all-files",
        action="store_true",
        help="search folders without leaving out what git ignores, hidden folders and folders of "
        "installed packages",
    )
    group.add_argument(
        "--follow-links",
        action=argparse.BooleanOptionalAction,
        help="follow links out of the checked folders, also to fix files; with --no-follow-links "
        "not even links that are arguments (default: only those, and only to read)",
    )
    group.add_argument(
        NAMES_AFTER_DASHES,
        action="store_true",
        help="for hooks: refuse to run unless -- precedes the names of the files",
    )
    group.add_argument(
        "--ignore-unmatched", action="store_true", help="accept named files without AdaLoRA"
    )
    group.add_argument("--allow-empty", action="store_true", help="accept that no file matches")


def _add_fix_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--fix",
        action="store_true",
        help="apply the safe fixes to the files, then report what is left; with -, print the "
        "fixed text to standard output and the report to standard error",
    )
    group.add_argument(
        "--unsafe-fixes",
        action="store_true",
        help="also apply fixes that change the meaning to what was probably meant",
    )
    group.add_argument(
        "--diff",
        action="store_true",
        help="write no file: print what --fix would change; exit with 1 if there is a change",
    )
    group.add_argument(
        "--add-ignores",
        action="store_true",
        help="write comments that suppress all findings, then report what is left; JSON has no "
        "comments, so print the settings to add",
    )


def _add_report_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-q", "--quiet", action="store_true", help="print the findings only, without a summary"
    )
    group.add_argument(
        "--statistics",
        action="store_true",
        help="print how often each rule was violated, in place of the findings",
    )
    group.add_argument(
        "-o",
        "--output-format",
        choices=OUTPUT_FORMATS,
        default="full",
        help="format of the printed report (default: full)",
    )
    group.add_argument(
        "--output-file",
        action="append",
        default=[],
        metavar="FORMAT=FILE",
        help="also write a report to a file; may be repeated",
    )
    group.add_argument(
        "--select",
        type=_codes,
        default=[],
        metavar="CODES",
        help="report these rules only, such as ADA2,ADA301",
    )
    group.add_argument(
        "--ignore", type=_codes, default=[], metavar="CODES", help="ignore these rules"
    )
    group.add_argument(
        "--per-file-ignores",
        action="append",
        default=[],
        metavar="PATTERN:CODES",
        help="ignore these rules in files whose name matches; may be repeated",
    )
    group.add_argument(
        "--no-suppressions",
        action="store_true",
        help="report findings although comments such as # adalora: ignore[ADA202] suppress them",
    )
    group.add_argument(
        "--fail-level",
        choices=SEVERITIES,
        default="error",
        help="the mildest severity that makes the exit code 1 (default: error)",
    )
    group.add_argument(
        "--exit-zero", action="store_true", help="exit with 0 even if there are findings"
    )
    group.add_argument(
        "--color",
        choices=("auto", "always", "never"),
        default="auto",
        help="colour the printed report (default: auto)",
    )


def options_in(project: Settings) -> argparse.Namespace:
    """Return the options of a run that checks the working folder, by a project's settings."""
    parser = make_parser()
    parser.set_defaults(**project.defaults, project=project)
    options: argparse.Namespace = parser.parse_args(["."])
    return options
