"""Run `adalora check`: read options and files, print a report, return an exit code.

An option of the command line goes before one of `[tool.adalora]`, and that before the default.
"""

from __future__ import annotations

import argparse
import dataclasses
import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from adalora_core.checker.documents.document import FORMATS as OF_FILES
from adalora_core.checker.reports import FOR_PEOPLE, FORMATS, Outcome, render
from adalora_core.checker.reports.text import fixing_lines, settings_lines
from adalora_core.commands.cli.check_job import Job, inspector_of
from adalora_core.commands.cli.console import (
    CANNOT_RUN,
    FINDINGS,
    FINE,
    Parser,
    add,
    choice,
    fail,
    flag,
    print_text,
    text,
    texts,
    wrapped,
)
from adalora_core.commands.cli.files import LINK_OUT, STDIN
from adalora_core.commands.cli.settings import (
    POLICY_METHODS,
    Settings,
    project_settings,
    read_settings,
)
from adalora_core.commands.session import SESSION
from adalora_core.config.fields.table import PEFT_VERSION, Runtime
from adalora_core.config.fields.tools import Layout
from adalora_core.config.findings import SEVERITIES
from adalora_core.floor.files import is_inside, write_file

NAMES_AFTER_DASHES = "--names-after-dashes"
"""The option of hooks; a program that adds names of files calls the command with it."""


_SOURCE = {
    "--isolated": flag("do not read [tool.adalora] of any file"),
    "--settings": text(
        "FILE", "read [tool.adalora] of this file, and not of the nearest pyproject.toml"
    ),
}
"""The options that decide on the defaults of all others."""


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
        "--format": choice(OF_FILES, "of every file (default: by its suffix, else json)"),
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
            FORMATS, "format of the printed report (default: full)", "full"
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
        make_parser().error(
            "the args of the hook do not end with --, so the name of a file could be an option; "
            "write args: [..., --]"
        )
    if "--" in argv:  # names follow, and "-" may be that of a file
        end = argv.index("--")
        argv = [*argv[:end], *("./-" if each == STDIN else each for each in argv[end:])]
    source, _ = Parser("check", "", {}, _SOURCE, add_help=False).parse_known_args(argv)
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


def make_parser(project: Settings | None = None) -> Parser:
    """Return the parser of `adalora check`, with the project's settings as defaults."""
    paths = "a file, a folder or a pattern; - for standard input (default: the working folder)"
    parser = Parser(
        "check",
        "Find what is wrong with AdaLoRA and LoRA in configurations, scripts, notebooks and saved "
        "adapters.",
        {
            "adalora check": "all files of the working folder",
            "adalora check train.py run.yaml": "two files",
            "adalora check --fix run.yaml": "correct what is safe to correct",
            "adalora check -o github .": "annotate a pull request",
        },
        {**_SOURCE, "paths": {"nargs": "*", **text("PATH", paths)}},
        usage="adalora check [OPTIONS] [PATH ...]",
        epilog="exit code: 0 no finding at or above the fail level, 1 findings, 2 could not run",
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


def parse_output_file(setting: str) -> tuple[str, Path]:
    """Split `FORMAT=FILE`.

    Raises:
        ValueError: the format is unknown, or the file is missing.
    """
    format_, _, name = setting.partition("=")
    if format_ not in FORMATS or not name:
        raise ValueError(
            f"--output-file: expected FORMAT=FILE, where FORMAT is one of {', '.join(FORMATS)}, "
            f"got {setting!r}"
        )
    return format_, Path(name)


def run(argv: Sequence[str]) -> int:
    """Run `adalora check ...`; return 0 (no findings), 1 (findings) or 2 (could not run)."""
    options = parse(argv)
    job = Job(options, inspector_of(options))
    files = [parse_output_file(setting) for setting in options.output_file]
    _notify_of_settings(job)
    outcome = job.run()
    is_empty = not (outcome.reports or outcome.skipped or outcome.too_large)
    is_untold = is_empty and job.tally.failed and options.output_format in FOR_PEOPLE
    if not options.diff and not is_untold:
        # With --fix and -, the fixed text goes to standard output.
        is_behind_text = options.fix and STDIN in options.paths
        report = render(outcome, options.output_format)
        is_full = options.output_format == "full"
        print_text(wrapped(report) if is_full else report, to_stderr=is_behind_text)
    _write(outcome, files, job)
    if job.tally.failed:
        return CANNOT_RUN
    if options.diff:
        return _end_of_diff(job, outcome)
    # A setting of the tree does not let files pass that exceed a bound.
    is_strict = SESSION.beyond and options.project.values.get("exit-zero")
    return FINDINGS if outcome.failed and (is_strict or not options.exit_zero) else FINE


def _notify_of_settings(job: Job) -> None:
    project, version = job.options.project, job.inspector.check.peft_version
    if project.problem is not None:
        job.notify(project.problem, project.file)
    if version is not None and version[:2] > tuple(map(int, PEFT_VERSION.split("."))):
        shown = job.options.peft_version
        job.notify(
            f"--peft-version {shown}: not known, so what holds for PEFT {PEFT_VERSION} is reported",
            fails=False,
        )


def _write(outcome: Outcome, files: Sequence[tuple[str, Path]], job: Job) -> None:
    """Write the reports of `--output-file`; one that cannot be written is reported."""
    whole = dataclasses.replace(outcome, colour=False, is_quiet=False)
    for format_, path in files:
        try:
            if not job.options.follow_links:
                _refuse_link_out(path)
            write_file(path, render(whole, format_).encode())
        except OSError as error:
            job.tally.failed = True
            missing = f"the folder {str(path.parent)!r} does not exist; create it first"
            is_missing = isinstance(error, FileNotFoundError)
            fail("check", f"--output-file {format_}={path}: {missing}" if is_missing else error)


def _refuse_link_out(path: Path) -> None:
    """Raise an OSError if links lead from a file in the working folder out of that."""
    here = Path.cwd()
    is_in_tree = Path(os.path.abspath(path)).is_relative_to(here)  # noqa: PTH100 - keeps links
    # A link in the place of the file itself is replaced.
    if is_in_tree and not is_inside(path.parent, here):
        raise OSError(errno.ELOOP, LINK_OUT, str(path))


def _end_of_diff(job: Job, outcome: Outcome) -> int:
    """Print how many findings a fix would remove, and return the exit code of `--diff`."""
    preview = dataclasses.replace(outcome, reports=tuple(job.tally.previews), fixing=True)
    lines = fixing_lines(preview, "would fix") or ["would fix nothing"]
    if not outcome.is_quiet:
        print(*lines, *settings_lines(outcome), sep="\n", file=sys.stderr)
    is_changed = any(report.fixed for report in job.tally.previews)
    return FINDINGS if is_changed or outcome.fails_besides else FINE
