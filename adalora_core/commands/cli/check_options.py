"""Read the options of `adalora check`: command line before `[tool.adalora]` before defaults."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from adalora_core.checker.documents.document import FORMATS
from adalora_core.checker.reports import FORMATS as OUTPUT_FORMATS
from adalora_core.commands.cli.arguments import Parser, add, choice, flag, text, texts
from adalora_core.commands.cli.settings import (
    POLICY_METHODS,
    Settings,
    project_settings,
    read_settings,
)
from adalora_core.config.fields.table import Runtime
from adalora_core.config.fields.tools import Layout
from adalora_core.config.findings import SEVERITIES

NAMES_AFTER_DASHES = "--names-after-dashes"
"""The option of hooks; a program that adds names of files calls the command with it."""


_SOURCE: dict[str, dict[str, Any]] = {
    "--isolated": flag("do not read [tool.adalora] of any file"),
    "--settings": text(
        "FILE", "read [tool.adalora] of this file, and not of the nearest pyproject.toml"
    ),
}


def _codes(value: str) -> list[str]:
    return [word.strip() for word in value.split(",") if word.strip()]


_OPTIONS: dict[str, dict[str, dict[str, Any]]] = {
    "how to check": {
        "--runtime": choice(
            get_args(Runtime), "the package that will train (default: peft)", "peft"
        ),
        "--strict-keys": flag("make unknown keys errors instead of warnings"),
        "--strict-types": flag(
            "make values of another type errors also where the runtime works with them"
        ),
        "--peft-version": text("X.Y", "also report what this PEFT release ignores or refuses"),
        "--policy": text(
            "FILE", "a JSON Schema of your own that every configuration must satisfy too"
        ),
        "--policy-methods": choice(
            tuple(POLICY_METHODS),
            "which configurations the policy judges (default: AdaLoRA's, and LoRA's if it names "
            "the peft_type LORA)",
        ),
        "--limit": texts(
            "NAME=NUMBER",
            "change a limit: file-bytes, depth, nodes, diagnostics, processor-seconds, "
            "memory-bytes, wall-seconds",
        ),
    },
    "where to look": {
        "--key": text("POINTER", "JSON pointer of the configuration, such as /model/peft"),
        "--layout": choice(
            get_args(Layout),
            "how the file lays out AdaLoRA's settings (default: try every layout)",
        ),
        "--format": choice(FORMATS, "of every file (default: by its suffix, else json)"),
        "--stdin-filename": text("NAME", "the name that reports show for -"),
        "--exclude": texts("GLOB", "ignore matching files"),
        "--all-files": flag(
            "search folders without leaving out what git ignores, hidden folders and folders of "
            "installed packages"
        ),
        "--follow-links": {
            "action": argparse.BooleanOptionalAction,
            "help": "follow links out of the checked folders, but never to fix files; with "
            "--no-follow-links not even links that are arguments (default: only those, and only "
            "to read)",
        },
        NAMES_AFTER_DASHES: flag(
            "for hooks: refuse to run unless -- precedes the names of the files"
        ),
        "--ignore-unmatched": flag("accept named files without AdaLoRA"),
        "--allow-empty": flag("accept that no file matches"),
    },
    "what to fix": {
        "--fix": flag(
            "apply the safe fixes to the files, then report what is left; with -, print the fixed "
            "text to standard output and the report to standard error"
        ),
        "--unsafe-fixes": flag(
            "also apply fixes that change the meaning to what was probably meant"
        ),
        "--diff": flag(
            "write no file: print what --fix would change; exit with 1 if there is a change"
        ),
    },
    "what to report": {
        "-q --quiet": flag("print the findings only, without a summary"),
        "-o --output-format": choice(
            OUTPUT_FORMATS, "format of the printed report (default: full)", "full"
        ),
        "--output-file": texts("FORMAT=FILE", "also write a report to a file; may be repeated"),
        "--select": {
            "type": _codes,
            "default": [],
            **text("CODES", "report these rules only, such as ADA2,ADA301"),
        },
        "--ignore": {"type": _codes, "default": [], **text("CODES", "ignore these rules")},
        "--per-file-ignores": texts(
            "PATTERN:CODES", "ignore these rules in files whose name matches; may be repeated"
        ),
        "--no-suppressions": flag(
            "report findings although comments such as # adalora: ignore[ADA202] suppress them"
        ),
        "--fail-level": choice(
            SEVERITIES, "the mildest severity that makes the exit code 1 (default: error)", "error"
        ),
        "--exit-zero": flag("exit with 0 even if there are findings"),
        "--color": choice(
            ("auto", "always", "never"), "colour the printed report (default: auto)", "auto"
        ),
    },
}
"""The options in groups, by their names."""


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the arguments, with the project's settings as defaults.

    Raises:
        ValueError: the project's settings are wrong.
        SystemExit: the arguments are wrong (exit code 2) or ask for help (0).
    """
    if NAMES_AFTER_DASHES in argv and "--" not in argv:
        make_parser().error(_without_dashes(argv))
    source, _ = _source_of_settings().parse_known_args(argv)
    here = Path.cwd()
    if source.isolated:
        project = Settings()
    elif source.settings is not None:
        project = read_settings(Path(source.settings).absolute(), here)
    else:
        project = project_settings(here)
    parser = make_parser(project)
    options: argparse.Namespace = parser.parse_args(argv)
    if not options.paths and argv[-1:] != ["--"]:  # which ends a list of names that is empty
        options.paths = ["."]
    if options.unsafe_fixes and not (options.fix or options.diff):
        parser.error("--unsafe-fixes has no effect alone: add --fix or --diff")
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
    add(parser, _SOURCE)
    return parser


_INTRODUCTION = """\
Find what is wrong with AdaLoRA and LoRA in configurations, scripts, notebooks and saved adapters.

  adalora check                      all files of the working folder
  adalora check train.py run.yaml    two files
  adalora check --fix run.yaml       correct what is safe to correct
  adalora check -o github .          annotate a pull request

"""


def make_parser(project: Settings | None = None) -> Parser:
    """Return the parser of `adalora check`, with the project's settings as defaults."""
    parser = Parser(
        _INTRODUCTION,
        prog="adalora check",
        usage="adalora check [OPTIONS] [PATH ...]",
        epilog="exit code: 0 no finding at or above the fail level, 1 findings, 2 could not run",
        parents=[_source_of_settings()],
    )
    parser.add_argument(
        "paths",
        nargs="*",
        metavar="PATH",
        help="a file, a folder or a pattern; - for standard input (default: the working folder)",
    )
    for title, options in _OPTIONS.items():
        add(parser.add_argument_group(title), options)
    if project is not None:
        parser.set_defaults(**project.defaults, project=project)
    return parser


def options_in(project: Settings) -> argparse.Namespace:
    """Return the options of a run that checks the working folder, by a project's settings."""
    options: argparse.Namespace = make_parser(project).parse_args(["."])
    return options
