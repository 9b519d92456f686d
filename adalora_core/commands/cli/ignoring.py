"""Report what `--add-ignores` has written, and what to write for files without comments."""

from __future__ import annotations

import os
import sys
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING

from adalora_core.checker.documents.document import format_of
from adalora_core.checker.pipeline.suppression import unsuppressible
from adalora_core.checker.rules import BY_CODE
from adalora_core.commands.cli.check_job import NO_NAME
from adalora_core.floor.escaping import visible

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping

    from adalora_core.checker.reports import Outcome
    from adalora_core.commands.cli.check_job import Job


def print_added(job: Job, outcome: Outcome) -> None:
    """Print to standard error how many findings are suppressed now, and the settings for JSON."""
    lines = []
    if not outcome.is_quiet:
        findings, files = sum(job.ignored), len(job.ignored)
        lines.append(
            f"added ignores for {findings} finding{'s' * (findings != 1)} "
            f"in {files} file{'s' * (files != 1)}"
        )
    lines += _settings_for(_in_json(job.options, outcome), job.options)
    if lines:
        print(*[visible(line, None) for line in lines], sep="\n", file=sys.stderr)


def _in_json(options: Namespace, outcome: Outcome) -> dict[str, list[str]]:
    """Return the codes that a setting can ignore in files without comments, by file."""
    found = {}
    for report in outcome.reports:
        codes = {d.code for d in report.diagnostics}
        codes = {code for code in codes if unsuppressible(BY_CODE[code], code) is None}
        name = report.source or ""
        is_json = (options.format or format_of(name)) == "json"
        if codes and is_json and report.was_checked and name != NO_NAME:
            found[name] = sorted(codes)
    return found


def _settings_for(codes: Mapping[str, list[str]], options: Namespace) -> list[str]:
    """Return lines that explain how to ignore findings in JSON."""
    if not codes:
        return []
    file, folder = _place(options)
    lines = [
        f"JSON has no comments; to ignore these findings, write this table to {file}:",
        "[tool.adalora.per-file-ignores]",
    ]
    for name, names in codes.items():
        path = Path(os.path.abspath(name))  # noqa: PTH100 - keeps links
        # With a slash a pattern starts at the folder, and fits this file alone.
        is_inside = path.is_relative_to(folder)
        pattern = f"./{path.relative_to(folder).as_posix()}" if is_inside else path.name
        lines.append(f"{_quoted(escape(pattern))} = [{', '.join(map(_quoted, names))}]")
    return lines


def _place(options: Namespace) -> tuple[str, Path]:
    """Return the file of the project's settings, and the folder at which its patterns start."""
    here = Path.cwd()
    if options.settings is not None:
        return options.settings, here
    folders = (here, *here.parents)
    folder = next((each for each in folders if (each / "pyproject.toml").is_file()), here)
    return ("pyproject.toml" if folder == here else str(folder / "pyproject.toml")), folder


def _quoted(text: str) -> str:
    import json

    return json.dumps(text)
